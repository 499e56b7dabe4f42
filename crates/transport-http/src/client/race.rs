//! A race of attempts, of which the first to succeed is taken (RFC 8305, "happy eyeballs").

use std::{
    future::{Future, poll_fn},
    net::IpAddr,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, sleep};

/// The time after which the next attempt starts beside those that have no outcome yet. It is what
/// the RFC recommends: longer than an ordinary connection takes, and shorter than a person notices.
const NEXT_AFTER: Duration = Duration::from_millis(250);

/// Makes these attempts, each as soon as the one before has failed or has taken 250 ms, until one
/// succeeds. The others are dropped then. If all fail, the error is the last one's; without any
/// attempt there is `None`.
pub(super) async fn race<F, T, E>(attempts: impl Iterator<Item = F>) -> Option<Result<T, E>>
where
    F: Future<Output = Result<T, E>> + Unpin,
{
    let mut attempts = attempts;
    let (mut running, mut error): (Vec<F>, _) = (Vec::new(), None);
    let mut next_start = pin!(sleep(Duration::ZERO));
    poll_fn(|cx| {
        loop {
            let mut place = 0;
            while let Some(attempt) = running.get_mut(place) {
                match Pin::new(attempt).poll(cx) {
                    Poll::Pending => place += 1,
                    Poll::Ready(Ok(won)) => return Poll::Ready(Some(Ok(won))),
                    Poll::Ready(Err(lost)) => {
                        error = Some(lost);
                        running.swap_remove(place);
                        next_start.as_mut().reset(Instant::now());
                    }
                }
            }
            if next_start.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match attempts.next() {
                Some(attempt) => running.push(attempt),
                None if running.is_empty() => return Poll::Ready(error.take().map(Err)),
                None => return Poll::Pending,
            }
            next_start.as_mut().reset(Instant::now() + NEXT_AFTER);
        }
    })
    .await
}

/// The same addresses with those of both families in turn, the first one's family first: a family
/// that does not work delays the other by one attempt.
pub(super) fn in_turn(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let is_first = |ip: &&IpAddr| addresses.first().is_some_and(|first| first.is_ipv4() == ip.is_ipv4());
    let (mut one, mut other) = (addresses.iter().filter(is_first), addresses.iter().filter(|ip| !is_first(ip)));
    let mut ordered = Vec::with_capacity(addresses.len());
    while ordered.len() < addresses.len() {
        ordered.extend(one.next());
        ordered.extend(other.next());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    type Attempt = Pin<Box<dyn Future<Output = Result<u8, &'static str>>>>;

    async fn raced(attempts: Vec<Attempt>) -> (Option<Result<u8, &'static str>>, u128) {
        let since = Instant::now();
        let outcome = race(attempts.into_iter()).await;
        (outcome, since.elapsed().as_millis())
    }

    fn fails(words: &'static str) -> Attempt {
        Box::pin(ready(Err(words)))
    }

    fn wins(number: u8) -> Attempt {
        Box::pin(ready(Ok(number)))
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_without_an_outcome_is_overtaken() {
        let hangs = || Box::pin(pending()) as Attempt;
        assert_eq!(raced(vec![hangs(), wins(1), wins(2)]).await, (Some(Ok(1)), 250));
        assert_eq!(raced(vec![hangs(), hangs(), hangs(), wins(1)]).await, (Some(Ok(1)), 750));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_the_next_starts_at_once() {
        assert_eq!(raced(vec![fails("a"), fails("b"), wins(1)]).await, (Some(Ok(1)), 0));
        assert_eq!(raced(vec![fails("a"), fails("b")]).await, (Some(Err("b")), 0));
        assert_eq!(raced(Vec::new()).await, (None, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_attempt_may_win_after_all() {
        let slow: Attempt = Box::pin(async {
            sleep(Duration::from_millis(400)).await;
            Ok(1)
        });
        assert_eq!(raced(vec![slow, fails("refused"), Box::pin(pending())]).await, (Some(Ok(1)), 400));
    }

    #[test]
    fn families_take_turns() {
        let ips = |text: &str| text.split(' ').map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        assert_eq!(in_turn(&ips("::1 ::2 ::3 1.1.1.1")), ips("::1 1.1.1.1 ::2 ::3"));
        assert_eq!(in_turn(&ips("1.1.1.1 ::1 ::2")), ips("1.1.1.1 ::1 ::2"));
        assert!(in_turn(&[]).is_empty());
    }
}
