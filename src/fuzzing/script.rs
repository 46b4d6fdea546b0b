//! A fuzzer's bytes, taken one after the other.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::error::loss::GoAway;
use crate::proto::head::{Head, Position, RequestHead};
use crate::proto::native::{Frame, PUSH_BIT};

#[derive(Debug)]
pub(super) struct Script<'a>(&'a [u8]);

/// What a byte stands for, in the script of any session. The corpora are written in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Shell(Shell),
    Own(Own),
}

/// What the shell tells any session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shell {
    /// Any bytes arrive.
    Hear,
    /// A frame arrives that is well made.
    HearFrame,
    /// The operating system takes some bytes.
    Write,
    /// It takes all.
    WriteAll,
    /// Time passes.
    Wait,
}

/// What those above a session do: callers, handlers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    Often,
    Sometimes,
    Rarely,
}

impl<'a> Script<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn step(&mut self) -> Step {
        match self.byte() % 12 {
            0 => Step::Shell(Shell::Hear),
            1..=3 => Step::Shell(Shell::HearFrame),
            4 => Step::Shell(Shell::Write),
            5 => Step::Shell(Shell::WriteAll),
            6 => Step::Shell(Shell::Wait),
            7..=9 => Step::Own(Own::Often),
            10 => Step::Own(Own::Sometimes),
            _ => Step::Own(Own::Rarely),
        }
    }

    /// 0 at its end.
    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(super) fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub(super) fn long(&mut self) -> u32 {
        u32::from(self.short()) << 16 | u32::from(self.short())
    }

    /// As many, or what is left.
    pub(super) fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A small one mostly, so that ids meet.
    pub(super) fn id(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=200 => u64::from(small % 8),
            push @ 201..=240 => PUSH_BIT + u64::from(push % 8),
            _ => u64::from(self.long()) << 32 | u64::from(self.long()),
        }
    }

    /// A frame that is well made, and means anything.
    pub(super) fn frame(&mut self) -> BytesMut {
        let text: Arc<str> = "text".into();
        let frame = match self.byte() % 12 {
            0..=2 => Frame::Message { head: self.head(), total: None, part: self.part() },
            3 | 4 => Frame::Message {
                head: self.head(),
                total: Some(u32::from(self.short())),
                part: self.part(),
            },
            5 | 6 => {
                let position = if self.byte() % 2 == 0 { Position::Inner } else { Position::Last };
                Frame::Chunk { id: self.id(), position, part: self.part() }
            }
            7 => Frame::Error { id: self.id(), code: self.long(), text },
            8 => Frame::Refused { id: self.id(), code: self.long(), retry_after: self.long() },
            9 => Frame::Cancel { id: self.id() },
            10 => Frame::Ping { nonce: self.id() },
            _ => Frame::GoAway(GoAway {
                code: u32::from(self.byte() % 4),
                accepted: self.id(),
                retry_after: None,
                text,
            }),
        };
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes);
        bytes
    }

    fn head(&mut self) -> Head {
        let id = self.id();
        match self.byte() % 8 {
            0..=2 => Head::Reply { id },
            3 => Head::Notify { id },
            4 => Head::Push { id },
            flags => Head::Request(RequestHead {
                id,
                repeatable: flags == 5,
                resent: flags == 6,
                remaining: u32::from(self.short()),
                oldest: self.id(),
            }),
        }
    }

    fn part(&mut self) -> Bytes {
        let bytes = self.byte();
        if bytes == u8::MAX {
            // Longer than any script.
            return Bytes::from(vec![7; usize::from(self.short())]);
        }
        Bytes::copy_from_slice(self.take(usize::from(bytes)))
    }
}
