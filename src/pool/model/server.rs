//! One server process: what its desk does with requests, in steps.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use bytes::Bytes;
use fastrand::Rng;

use crate::error::answer::{ErrorReply, Refusal};
use crate::error::connect::Busy;
use crate::error::instance::InstanceId;
use crate::error::loss::GoAway;
use crate::policy::ReplyCache;
use crate::pool::model::Journal;
use crate::pool::model::line::{LONGEST, Line};
use crate::proto::greeting::{Hello, Welcome};
use crate::proto::native::{Frame, VERSION};
use crate::proto::replies::{Replies, Response, Room, Seen, Swept};
use crate::proto::requests::Remember;
use crate::proto::serving::Event;

pub(super) struct Server {
    pub(super) number: u8,
    cache: ReplyCache,
    room: Room,
    /// Of the only client; `None` while it is not known.
    memory: Option<Memory>,
    /// How often it was remembered that had not been known.
    memories: u64,
    tasks: Vec<Task>,
    draining: bool,
}

/// What the server knows of the client.
struct Memory {
    number: u64,
    replies: Replies,
    connections: HashSet<u64>,
    /// Since when it has had no connection.
    left: Option<Instant>,
}

struct Task {
    id: u64,
    connection: u64,
    body: Bytes,
    deadline: Option<Instant>,
    /// The number of the memory that it is in, if it is in one.
    memory: Option<u64>,
    cancelled: bool,
    begun: bool,
}

impl Server {
    pub(super) fn new(number: u8, cache: ReplyCache) -> Self {
        let room = Room::new(cache.total_bytes);
        Self { number, cache, room, memory: None, memories: 0, tasks: Vec::new(), draining: false }
    }

    /// Answers a `HELLO`. When it welcomes the connection, the one that it replaces is not served any more.
    pub(super) fn greet(
        &mut self,
        now: Instant,
        hello: &Hello,
        lines: &mut BTreeMap<u64, Line>,
    ) -> Frame {
        if self.draining {
            return Frame::Busy { code: Busy::DRAINING, retry_after: 0, text: "".into() };
        }
        let (cache, memories, replaces) = (self.cache, &mut self.memories, hello.replaces);
        let memory = self.memory.get_or_insert_with(|| {
            *memories += 1;
            let (replies, connections) = (Replies::new(cache, hello.next_id), HashSet::new());
            Memory { number: *memories, replies, connections, left: None }
        });
        memory.left = None;
        memory.connections.insert(hello.connection);
        let number = memory.number;
        if memory.connections.remove(&replaces) {
            let old = lines.get_mut(&replaces).expect("lines stay");
            old.serving.fence();
            let events = old.server_loses(0);
            self.take(now, replaces, events, lines);
            self.ended(replaces);
        }
        Frame::Welcome(self.welcome(number))
    }

    /// Forgets what is too old, as `server::clients` does.
    pub(super) fn sweep(&mut self, now: Instant) {
        let Some(memory) = &mut self.memory else {
            return;
        };
        memory.replies.expire(now, &self.room, &mut Swept::default());
        let gone = memory.left.map(|left| now.saturating_duration_since(left));
        if gone.is_some_and(|gone| gone >= self.cache.age) {
            self.forget();
        }
    }

    fn forget(&mut self) {
        let Some(Memory { number, mut replies, .. }) = self.memory.take() else {
            return;
        };
        replies.clear(&self.room, &mut Swept::default());
        assert!(self.room.is_empty());
        let tasks = self.tasks.iter_mut().filter(|task| task.memory == Some(number));
        tasks.for_each(|task| task.cancelled = true);
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
                        memory: None,
                        cancelled: false,
                        begun: false,
                    };
                    self.request(now, task, remember, lines);
                }
                Event::Notification { .. } => {}
                Event::Cancelled { id } => {
                    let current = self.memory.as_ref().map(|memory| memory.number);
                    for task in self.tasks.iter_mut().filter(|task| task.id == id) {
                        task.cancelled |= match task.memory {
                            Some(_) => task.memory == current,
                            None => task.connection == connection,
                        };
                    }
                }
                Event::Orphaned { id } => {
                    let lost = |task: &&mut Task| task.id == id && task.connection == connection;
                    for task in self.tasks.iter_mut().filter(lost) {
                        task.cancelled |= task.memory.is_none();
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
            let Some(memory) = self.memory.as_mut().filter(|memory| memory.has(task.connection))
            else {
                return;
            };
            let (replies, mut swept) = (&mut memory.replies, Swept::default());
            let seen = replies.begin(task.connection, task.id, oldest, &self.room, &mut swept);
            for id in std::mem::take(&mut swept.abandoned) {
                let tasks = self.tasks.iter_mut().filter(|task| task.memory == Some(memory.number));
                tasks.filter(|task| task.id == id).for_each(|task| task.cancelled = true);
            }
            let code = |code| Response::Error(ErrorReply::new(code, ""));
            let response = match seen {
                Seen::New => {
                    task.memory = Some(memory.number);
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
        // A memory that was forgotten keeps no answer.
        let memory = self.memory.as_mut().filter(|memory| task.memory == Some(memory.number));
        if let Some(memory) = memory {
            joined = memory.replies.settle(
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
    pub(super) fn leave(&mut self, now: Instant, connection: u64) {
        let Some(memory) = self.memory.as_mut().filter(|memory| memory.has(connection)) else {
            return;
        };
        memory.connections.remove(&connection);
        memory.left = memory.connections.is_empty().then_some(now);
        self.ended(connection);
    }

    fn ended(&mut self, connection: u64) {
        let Self { tasks, memory: Some(Memory { replies, .. }), .. } = self else {
            return;
        };
        replies.leave(connection);
        tasks.retain(|task| {
            let waits = task.connection == connection && task.memory.is_some() && !task.begun;
            !(waits && replies.withdraw(task.id))
        });
    }

    pub(super) fn drain(&mut self, lines: &mut BTreeMap<u64, Line>) {
        self.draining = true;
        for number in self.memory.iter().flat_map(|memory| &memory.connections) {
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
        if let Some(mut memory) = self.memory.take() {
            memory.replies.clear(&self.room, &mut Swept::default());
            assert!(memory.replies.is_empty() && self.room.is_empty());
        }
    }

    fn welcome(&self, memory: u64) -> Welcome {
        let ReplyCache { calls, bytes, .. } = self.cache;
        Welcome {
            version: VERSION,
            instance: InstanceId([self.number; 16]),
            max_message: LONGEST as u32,
            max_in_flight: 1000,
            idle_limit: 0,
            every: 0,
            cached_calls: calls as u32,
            cached_bytes: bytes as u64,
            cache_age: 0,
            memory: if self.cache.is_on() { memory } else { 0 },
        }
    }
}

impl Memory {
    fn has(&self, connection: u64) -> bool {
        self.connections.contains(&connection)
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
