//! The steps of the tour, in order. Each does something to the cluster and says what it saw.

use std::collections::BTreeMap;
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::tour::{self, Tour};
use crate::http::{Answer, Client};
use crate::node;
use crate::process::child::POLL;

/// One step: what it is about, what should be seen, and how to look.
pub struct Step {
    pub what: &'static str,
    pub expected: &'static str,
    pub take: fn(&mut Tour) -> Result<Seen>,
}

/// The result of a step: what it saw, and whether that is what was expected.
pub struct Seen {
    pub held: bool,
    pub text: String,
}

impl Seen {
    fn new(held: bool, text: String) -> Self {
        Self { held, text }
    }

    /// Seen: trouble.
    pub fn failed(text: String) -> Self {
        Self::new(false, text)
    }
}

/// The tour.
pub const STEPS: &[Step] = &[
    Step {
        what: "cold read through a node that does not own the name",
        expected: "200 from `peer`, 1 request at the origin",
        take: cold_read,
    },
    Step {
        what: "warm read from each node",
        expected: "200 from `main` at the owner, `peer` or `hot` elsewhere, 0 requests at the origin",
        take: warm_reads,
    },
    Step {
        what: "a name that nobody has, asked from each node",
        expected: "404 404 404 with the apology",
        take: unknown_name,
    },
    Step {
        what: "300 concurrent reads of one cold name over three nodes",
        expected: "300 right answers, 1 request at the origin",
        take: crowd,
    },
    Step {
        what: "all nodes agree whose a key is",
        expected: "one owner for each of 120 keys, and every node owns some",
        take: agreement,
    },
    Step {
        what: "an update is seen on every node",
        expected: "PUT through a node that does not own the name: 200, and 3 nodes say the new role; \
                   DELETE through a third: 200, and 3 nodes say the origin's again, after 1 request there",
        take: update,
    },
    Step {
        what: "the member list goes to two nodes at run time",
        expected: "204 204 from the two and 400 from the one left out, which then owns none of 60 keys; \
                   120 right answers",
        take: two_members,
    },
    Step {
        what: "the member list goes back to three",
        expected: "204 204 204, and one owner for each of 120 keys, and every node owns some",
        take: three_members,
    },
    Step {
        what: "node 2 is killed (-9) while the others are read, and nobody notices",
        expected: "120 right answers of 120 from the other two",
        take: kill,
    },
    Step {
        what: "node 2 is back on its ports and in use",
        expected: "20 of its keys read through the others: 40 right answers, 20 from its `main`, \
                   1 request each at the origin",
        take: back_in_use,
    },
    Step { what: "SIGTERM stops all nodes", expected: "exit codes 0 0 0", take: stop },
];

/// The node that is left out of the member list for a while.
const LEFT_OUT: usize = 2;
/// The node that is killed and comes back.
const KILLED: usize = 1;
/// Callers of the crowd: what the service carries without options.
const CROWD: usize = 300;
/// A load that takes this long has the whole crowd waiting for it.
const CROWD_ORIGIN_DELAY: Duration = Duration::from_millis(500);
/// A thread of the crowd only waits for an answer.
const CROWD_STACK_BYTES: usize = 256 << 10;
/// Keys whose owner is compared. A node with a third of them owns none with a probability of
/// (2/3)^120.
const AGREED_KEYS: usize = 120;
/// Reads of each node before an update. A node copies one in ten of what it fetches, so that there
/// are copies to forget.
const COPYING_READS: usize = 20;
/// Keys that are read after a change of members.
const READ_KEYS: usize = 60;
/// Keys of a returned node.
const RETURNED_KEYS: usize = 20;
/// Longest time until a returned node is asked for its keys again.
const RETURN_TIMEOUT: Duration = Duration::from_secs(20);

const KNOWN_NAME: &str = "张三";
const UNKNOWN_NAME: &str = "无名氏";
/// No soldier has it from the origin.
const NEW_ROLE: &str = "元帅";
const APOLOGY: &str = "大伯,咱军营没这个人!\n";

fn cold_read(tour: &mut Tour) -> Result<Seen> {
    let text = tour.expected(KNOWN_NAME)?;
    let reader = (tour.owner_index(KNOWN_NAME)? + 1) % tour.nodes.len();
    let before = tour.origin.count(KNOWN_NAME)?;
    let answer = tour.read(reader, KNOWN_NAME)?;
    let requests = tour.origin.count(KNOWN_NAME)? - before;
    let held = is_right(&answer, &text) && answer.cache.as_deref() == Some("peer") && requests == 1;
    let seen = format!("{} from {}, {requests} at the origin: {:?}", answer.status, source(&answer), answer.body);
    Ok(Seen::new(held, seen))
}

fn warm_reads(tour: &mut Tour) -> Result<Seen> {
    let text = tour.expected(KNOWN_NAME)?;
    let owner = tour.owner_index(KNOWN_NAME)?;
    let before = tour.origin.total()?;
    let answers = from_each(tour, KNOWN_NAME)?;
    let requests = tour.origin.total()? - before;
    let well_from = |node: usize, answer: &Answer| match answer.cache.as_deref() {
        Some("main") => node == owner,
        Some("peer" | "hot") => node != owner,
        _ => false,
    };
    let right = answers.iter().enumerate().all(|(node, answer)| is_right(answer, &text) && well_from(node, answer));
    let sources: Vec<String> = answers.iter().map(|a| format!("{} {}", a.status, source(a))).collect();
    let seen = format!("{} (owner: node {}), {requests} at the origin", sources.join(", "), owner + 1);
    Ok(Seen::new(right && requests == 0, seen))
}

fn unknown_name(tour: &mut Tour) -> Result<Seen> {
    let answers = from_each(tour, UNKNOWN_NAME)?;
    let held = answers.iter().all(|answer| answer.status == 404 && answer.body == APOLOGY);
    let seen: Vec<String> = answers.iter().map(|a| format!("{} {:?}", a.status, a.body)).collect();
    Ok(Seen::new(held, seen.join(" ")))
}

fn crowd(tour: &mut Tour) -> Result<Seen> {
    let key = tour.fresh_key();
    let text = tour.expected(&key)?;
    let before = tour.origin.count(&key)?;
    tour.origin.delay(CROWD_ORIGIN_DELAY)?;
    let answers = read_at_once(tour, &key);
    tour.origin.delay(Duration::ZERO)?;
    let answers = answers?;
    let requests = tour.origin.count(&key)? - before;
    let right = answers.iter().filter(|answer| matches!(answer, Ok(answer) if is_right(answer, &text))).count();
    let mut seen = format!("{right} right answers, {requests} at the origin");
    if let Some(wrong) = answers.iter().find(|answer| !matches!(answer, Ok(answer) if is_right(answer, &text))) {
        seen.push_str(&match wrong {
            Ok(answer) => format!("; one of the others: {} {:?}", answer.status, answer.body),
            Err(error) => format!("; one of the others: {error:#}"),
        });
    }
    Ok(Seen::new(right == CROWD && requests == 1, seen))
}

/// Has every caller of the crowd ready before the first one asks.
fn read_at_once(tour: &Tour, key: &str) -> Result<Vec<Result<Answer>>> {
    let gate = Barrier::new(CROWD);
    let nodes = tour.nodes.len();
    thread::scope(|scope| {
        let callers: Vec<_> = (0..CROWD)
            .map(|caller| {
                let (gate, url, client) = (&gate, tour.read_url(caller % nodes, key), tour.client());
                let caller = move || {
                    gate.wait();
                    client.get(&url)
                };
                thread::Builder::new().stack_size(CROWD_STACK_BYTES).spawn_scoped(scope, caller)
            })
            .collect::<std::io::Result<_>>()
            .context("this machine does not allow 300 threads")?;
        Ok(callers.into_iter().map(|caller| caller.join().expect("a caller does not panic")).collect())
    })
}

fn agreement(tour: &mut Tour) -> Result<Seen> {
    let mut shares: BTreeMap<String, usize> = tour.members().into_iter().map(|member| (member, 0)).collect();
    for _ in 0..AGREED_KEYS {
        let key = tour.fresh_key();
        let owners = (0..tour.nodes.len()).map(|node| tour.owner(node, &key)).collect::<Result<Vec<String>>>()?;
        if owners.iter().any(|owner| *owner != owners[0]) {
            return Ok(Seen::failed(format!("for {key} the nodes say: {}", owners.join(", "))));
        }
        *shares.entry(owners[0].clone()).or_default() += 1;
    }
    let held = shares.len() == tour.nodes.len() && !shares.values().any(|&share| share == 0);
    let shares: Vec<String> = shares.iter().map(|(member, share)| format!("{member} {share}")).collect();
    Ok(Seen::new(held, format!("one owner each: {}", shares.join(", "))))
}

fn update(tour: &mut Tour) -> Result<Seen> {
    let key = tour.fresh_key();
    let (old, new) = (tour.expected(&key)?, tour::sentence(&key, NEW_ROLE));
    let owner = tour.owner_index(&key)?;
    let (second, third) = ((owner + 1) % tour.nodes.len(), (owner + 2) % tour.nodes.len());
    for _ in 0..COPYING_READS {
        from_each(tour, &key)?;
    }
    let before = tour.origin.count(&key)?;
    let put = tour.put_role(second, &key, NEW_ROLE)?;
    let say_new = from_each(tour, &key)?.iter().filter(|answer| is_right(answer, &new)).count();
    let delete = tour.delete_role(third, &key)?;
    let say_old = from_each(tour, &key)?.iter().filter(|answer| is_right(answer, &old)).count();
    let requests = tour.origin.count(&key)? - before;
    let all = tour.nodes.len();
    let held = (put.status, delete.status, say_new, say_old, requests) == (200, 200, all, all, 1);
    let [put, delete] = [put, delete].map(|answer| format!("{} {:?}", answer.status, answer.body));
    Ok(Seen::new(
        held,
        format!(
            "PUT through node {}: {put}, {say_new} say the new role; DELETE through node {}: {delete}, {say_old} say \
             the origin's, {requests} at the origin (owner: node {})",
            second + 1,
            third + 1,
            owner + 1
        ),
    ))
}

fn two_members(tour: &mut Tour) -> Result<Seen> {
    let all = tour.members();
    let mut two = all.clone();
    let left_out = two.remove(LEFT_OUT);
    let statuses = (0..all.len()).map(|node| tour.put_peers(node, &two)).collect::<Result<Vec<u16>>>()?;
    let remaining = [0, 1];
    let lists = remaining.iter().map(|&node| tour.peers(node)).collect::<Result<Vec<_>>>()?;
    let confirmed = lists.iter().all(|list| *list == two);
    let (mut named, mut right) = (0, 0);
    for _ in 0..READ_KEYS {
        let key = tour.fresh_key();
        let text = tour.expected(&key)?;
        for node in remaining {
            named += usize::from(tour.owner(node, &key)? == left_out);
            right += usize::from(is_right(&tour.read(node, &key)?, &text));
        }
    }
    let held = statuses == [204, 204, 400] && confirmed && named == 0 && right == READ_KEYS * remaining.len();
    let confirmed = if confirmed { "confirmed" } else { "NOT confirmed" };
    let seen = format!("{statuses:?}, {confirmed} by GET /peers; named as owner {named} times; {right} right answers");
    Ok(Seen::new(held, seen))
}

fn three_members(tour: &mut Tour) -> Result<Seen> {
    let all = tour.members();
    let statuses = (0..all.len()).map(|node| tour.put_peers(node, &all)).collect::<Result<Vec<u16>>>()?;
    let lists = (0..all.len()).map(|node| tour.peers(node)).collect::<Result<Vec<_>>>()?;
    if statuses != [204, 204, 204] || lists.iter().any(|list| *list != all) {
        return Ok(Seen::failed(format!("{statuses:?}, and from GET /peers {lists:?}")));
    }
    let Seen { held, text } = agreement(tour)?;
    Ok(Seen::new(held, format!("{statuses:?}, {text}")))
}

/// The others are read all the while: the node goes when a third of the answers are there.
fn kill(tour: &mut Tour) -> Result<Seen> {
    let mut reads = [Vec::new(), Vec::new()];
    for _ in 0..READ_KEYS {
        let key = tour.fresh_key();
        let text = tour.expected(&key)?;
        for (node, reads) in [0, 2].into_iter().zip(&mut reads) {
            reads.push((tour.read_url(node, &key), text.clone()));
        }
    }
    let (answered, answers) = mpsc::channel();
    let (mut right, mut wrong) = (0, None);
    thread::scope(|scope| {
        for reads in reads {
            let answered = answered.clone();
            scope.spawn(move || {
                let client = Client::new();
                reads.into_iter().try_for_each(|(url, text)| answered.send((client.get(&url), text)))
            });
        }
        drop(answered);
        for (count, (answer, text)) in answers.iter().enumerate() {
            if count == 2 * READ_KEYS / 3 {
                tour.nodes[KILLED].kill();
            }
            match answer {
                Ok(answer) if is_right(&answer, &text) => right += 1,
                Ok(answer) => wrong = Some(format!("; one of the others: {} {:?}", answer.status, answer.body)),
                Err(error) => wrong = Some(format!("; one of the others: {error:#}")),
            }
        }
    });
    let seen = format!("{right} right answers{}", wrong.unwrap_or_default());
    Ok(Seen::new(right == 2 * READ_KEYS, seen))
}

fn back_in_use(tour: &mut Tour) -> Result<Seen> {
    tour.restart(KILLED)?;
    let Some(waited) = until_in_use(tour)? else {
        let seconds = RETURN_TIMEOUT.as_secs();
        return Ok(Seen::failed(format!("ready, but the others do not ask it for its keys within {seconds} s")));
    };
    let (mut right, mut main, mut requests) = (0, 0, 0);
    for _ in 0..RETURNED_KEYS {
        let key = tour.fresh_key_of(KILLED, 0)?;
        let text = tour.expected(&key)?;
        let before = tour.origin.count(&key)?;
        for node in [0, 2] {
            right += usize::from(is_right(&tour.read(node, &key)?, &text));
        }
        main += usize::from(is_main(&tour.read(KILLED, &key)?, &text));
        requests += tour.origin.count(&key)? - before;
    }
    let held = right == 2 * RETURNED_KEYS && main == RETURNED_KEYS && requests == RETURNED_KEYS as u64;
    let seen = format!("{right} right answers, {main} from its `main`, {requests} at the origin");
    Ok(Seen::new(held, format!("{seen}, in use {} ms after it was ready", waited.as_millis())))
}

/// Waits until a key of the returned node, read through another, is loaded at the returned one.
/// `None` if it never is. The others may keep away from it for a moment: they have seen it fail.
fn until_in_use(tour: &mut Tour) -> Result<Option<Duration>> {
    let start = Instant::now();
    while start.elapsed() < RETURN_TIMEOUT {
        let mut asked_by_all = true;
        for node in [0, 2] {
            let key = tour.fresh_key_of(KILLED, node)?;
            let text = tour.expected(&key)?;
            asked_by_all &= is_right(&tour.read(node, &key)?, &text) && is_main(&tour.read(KILLED, &key)?, &text);
        }
        if asked_by_all {
            return Ok(Some(start.elapsed()));
        }
        thread::sleep(POLL);
    }
    Ok(None)
}

fn stop(tour: &mut Tour) -> Result<Seen> {
    let ends = node::stop(&mut tour.nodes);
    let held = ends.iter().all(|(_, end)| end.is_some_and(|status| status.success()));
    let shown: Vec<String> = ends
        .iter()
        .map(|(_, end)| match end {
            Some(status) => status.code().map_or_else(|| status.to_string(), |code| code.to_string()),
            None => format!("killed after {} s", node::STOP_TIMEOUT.as_secs()),
        })
        .collect();
    Ok(Seen::new(held, format!("exit codes {}", shown.join(" "))))
}

fn from_each(tour: &Tour, key: &str) -> Result<Vec<Answer>> {
    (0..tour.nodes.len()).map(|node| tour.read(node, key)).collect()
}

fn is_right(answer: &Answer, text: &str) -> bool {
    answer.status == 200 && answer.body == text
}

fn is_main(answer: &Answer, text: &str) -> bool {
    is_right(answer, text) && answer.cache.as_deref() == Some("main")
}

fn source(answer: &Answer) -> &str {
    answer.cache.as_deref().unwrap_or("nowhere")
}
