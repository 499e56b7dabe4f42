//! One run: a cluster and its clients from the first call until nothing should be left.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::{Builder, Handle},
    time::sleep,
};

use crate::{
    clients,
    history::{Entry, Event},
    plan::{Plan, TICK_MS},
    world::World,
};

/// Runs the plan of `seed` to its end and returns its history.
pub fn run(seed: u64) -> (Plan, Vec<Entry>) {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(simulate(Plan::of(seed)))
}

async fn simulate(plan: Plan) -> (Plan, Vec<Entry>) {
    let world = Arc::new(World::new(plan));
    let clients = clients::start(&world);
    world.follow_the_plan().await;
    world.end_calls();
    for client in clients {
        client.await.unwrap();
    }
    sleep(Duration::from_millis(world.plan.agree_ms())).await;
    clients::compare(&world).await;
    empty_all(&world).await;
    let history = world.history.clone();
    let plan = Arc::into_inner(world).expect("all clients have stopped").end();
    sleep(Duration::from_millis(plan.wears_off_ms())).await;
    history.note(Event::TasksLeft { tasks: Handle::current().metrics().num_alive_tasks() });
    (plan, history.take())
}

/// Empties all groups and notes what is left all the same.
async fn empty_all(world: &World) {
    // Entries expire by themselves, and a refresh ends once its value has come.
    let kept_ms = world.plan.attempt_ms(1) + world.plan.groups[1].kept_ms();
    sleep(Duration::from_millis(kept_ms + 2 * TICK_MS)).await;
    world.note_left(1);
    clients::clear_all(world).await;
    // Loads that gets have left at the origin end in their time.
    sleep(Duration::from_millis(world.plan.attempt_ms(0).max(world.plan.attempt_ms(1)))).await;
    world.note_left(0);
    world.note_left(1);
}
