//! One server process: what its desk does with requests, in steps.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use bytes::Bytes;
use fastrand::Rng;

use crate::error::answer::{ErrorReply, Refusal};
use crate::error::instance::InstanceId;
use crate::error::loss::GoAway;
use crate::policy::ReplyCache;
use crate::pool::model::Journal;
use crate::pool::model::line::{LONGEST, Line, heartbeat};
use crate::proto::replies::{Replies, Response, Room, Seen, Swept};
use crate::proto::requests::Remember;
use crate::proto::serving::{Bounds, Event, Serving};

pub(super) struct Server {
    pub(super) number: u8,
    cache: ReplyCache,
    room: Room,
    /// Of the only client; `None` before its first connection.
    replies: Option<Replies>,
    connections: HashSet<u64>,
    tasks: Vec<Task>,
    draining: bool,
}

struct Task {
    id: u64,
    connection: u64,
    body: Bytes,
    deadline: Option<Instant>,
    remembered: bool,
    cancelled: bool,
    begun: bool,
}

impl Server {
    pub(super) fn new(number: u8, cache: ReplyCache) -> Self {
        let room = Room::new(cache.total_bytes);
        let (replies, connections, tasks) = (None, HashSet::new(), Vec::new());
        Self { number, cache, room, replies, connections, tasks, draining: false }
    }

    pub(super) fn instance(&self) -> InstanceId {
        InstanceId([self.number; 16])
    }

    /// Welcomes a connection, if it takes any. The one that it replaces is not served any more.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        number: u64,
        replaces: u64,
        next_id: u64,
        lines: &mut BTreeMap<u64, Line>,
    ) -> Option<Serving> {
        if self.draining {
            return None;
        }
        if let Some(old) = lines.get_mut(&replaces).filter(|_| self.connections.remove(&replaces)) {
            old.serving.fence();
            let events = old.server_loses(0);
            self.take(now, replaces, events, lines);
            self.ended(replaces);
        }
        let cache = self.cache;
        self.replies.get_or_insert_with(|| Replies::new(cache, next_id));
        self.connections.insert(number);
        let bounds = Bounds {
            send: LONGEST,
            receive: LONGEST,
            in_flight: 1000,
            held_bytes: usize::MAX,
            idle_limit: None,
        };
        Some(Serving::new(now, heartbeat(), None, bounds))
    }

    pub(super) fn take(
        &mut self,
        now: Instant,
        connection: u64,
        events: Vec<Event>,
        lines: &mut BTreeMap<u64, Line>,
    ) {
        for event in events {
            match event {
                Event::Request { id, body, deadline, remember } => {
                    let task = Task {
                        id,
                        connection,
                        body,
                        deadline,
                        remembered: false,
                        cancelled: false,
                        begun: false,
                    };
                    self.request(now, task, remember, lines);
                }
                Event::Notification { .. } => {}
                Event::Cancelled { id } => {
                    for task in self.tasks.iter_mut().filter(|task| task.id == id) {
                        task.cancelled |= task.remembered || task.connection == connection;
                    }
                }
                Event::Orphaned { id } => {
                    let lost = |task: &&mut Task| task.id == id && task.connection == connection;
                    for task in self.tasks.iter_mut().filter(lost) {
                        task.cancelled |= !task.remembered;
                    }
                }
            }
        }
    }

    fn request(
        &mut self,
        now: Instant,
        mut task: Task,
        remember: Remember,
        lines: &mut BTreeMap<u64, Line>,
    ) {
        if let (Remember::Yes { oldest }, true) = (remember, self.cache.is_on()) {
            if !self.connections.contains(&task.connection) {
                return;
            }
            let replies = self.replies.as_mut().expect("it has been admitted");
            let mut swept = Swept::default();
            let seen = replies.begin(task.connection, task.id, oldest, &self.room, &mut swept);
            for id in std::mem::take(&mut swept.abandoned) {
                let mut tasks = self.tasks.iter_mut();
                tasks.by_ref().filter(|task| task.id == id).for_each(|task| task.cancelled = true);
            }
            let code = |code| Response::Error(ErrorReply::new(code, ""));
            let response = match seen {
                Seen::New => {
                    task.remembered = true;
                    return self.tasks.push(task);
                }
                Seen::Joined => return,
                Seen::Answered(response) => response,
                Seen::Lost => code(ErrorReply::REPLY_LOST),
                Seen::Evicted => code(ErrorReply::EVICTED),
            };
            return respond(now, task.connection, task.id, &response, lines);
        }
        self.tasks.push(task);
    }

    /// Some of the waiting tasks get their turn.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        journal: &mut Journal,
        lines: &mut BTreeMap<u64, Line>,
    ) {
        let mut at = 0;
        while at < self.tasks.len() {
            let task = &mut self.tasks[at];
            let late = task.cancelled || task.deadline.is_some_and(|deadline| deadline <= now);
            if task.begun || rng.u32(..4) == 0 {
                at += 1;
            } else if late {
                let task = self.tasks.swap_remove(at);
                let refusal = Refusal { code: Refusal::EXPIRED, retry_after: None };
                self.settle(now, &task, &Response::Refused(refusal), lines);
            } else {
                task.begun = true;
                *journal.entry(key(&task.body)).or_default() += 1;
                at += 1;
            }
        }
    }

    /// Some of the tasks that have begun are answered.
    pub(super) fn finish(&mut self, now: Instant, rng: &mut Rng, lines: &mut BTreeMap<u64, Line>) {
        let mut at = 0;
        while at < self.tasks.len() {
            if !self.tasks[at].begun || rng.u32(..4) == 0 {
                at += 1;
                continue;
            }
            let task = self.tasks.swap_remove(at);
            let response = match fails(key(&task.body)) {
                true => Response::Error(ErrorReply::new(7, "no")),
                false => Response::Reply(task.body.clone()),
            };
            self.settle(now, &task, &response, lines);
        }
    }

    fn settle(
        &mut self,
        now: Instant,
        task: &Task,
        response: &Response,
        lines: &mut BTreeMap<u64, Line>,
    ) {
        let mut joined = Vec::new();
        if let Some(replies) = self.replies.as_mut().filter(|_| task.remembered) {
            joined = replies.settle(
                now,
                task.connection,
                task.id,
                response.clone(),
                &self.room,
                &mut Swept::default(),
            );
        }
        joined.push(task.connection);
        for connection in joined {
            respond(now, connection, task.id, response, lines);
        }
    }

    /// A connection has ended that was not fenced off.
    pub(super) fn leave(&mut self, connection: u64) {
        if self.connections.remove(&connection) {
            self.ended(connection);
        }
    }

    fn ended(&mut self, connection: u64) {
        let Self { tasks, replies: Some(replies), .. } = self else {
            return;
        };
        replies.leave(connection);
        tasks.retain(|task| {
            let waits = task.connection == connection && task.remembered && !task.begun;
            !(waits && replies.withdraw(task.id))
        });
    }

    pub(super) fn drain(&mut self, lines: &mut BTreeMap<u64, Line>) {
        self.draining = true;
        for number in &self.connections {
            if let Some(line) = lines.get_mut(number) {
                line.serving.go_away(GoAway::CLOSING, None, "");
            }
        }
    }

    pub(super) fn is_drained(&self) -> bool {
        self.draining && self.tasks.is_empty()
    }

    pub(super) fn has_work(&self) -> bool {
        !self.tasks.is_empty()
    }

    pub(super) fn check_empty_when_forgotten(&mut self) {
        if let Some(mut replies) = self.replies.take() {
            replies.clear(&self.room, &mut Swept::default());
            assert!(replies.is_empty() && self.room.is_empty());
        }
    }
}

fn respond(
    now: Instant,
    connection: u64,
    id: u64,
    response: &Response,
    lines: &mut BTreeMap<u64, Line>,
) {
    if let Some(line) = lines.get_mut(&connection) {
        line.serving.respond(now, id, response);
    }
}

/// Whether the handler answers this call with an error.
pub(super) fn fails(key: u64) -> bool {
    key % 16 == 0
}

/// Which call a body belongs to.
pub(super) fn key(body: &[u8]) -> u64 {
    u64::from_be_bytes(*body.first_chunk().expect("a key"))
}
