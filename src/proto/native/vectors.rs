//! The test vectors of `docs/protocol-vectors.json`, read in both directions: the bytes decode to the fields, the fields
//! encode to the bytes. Those marked `"reencode": false` are what no sender of today makes, and every receiver takes.

use serde_json::Value;

use super::*;
use crate::error::instance::InstanceId;
use crate::proto::frame::next_payload;
use crate::proto::greeting::ClientId;

/// The fields of one frame: `u64` are decimal texts, bytes are hex, smaller numbers are numbers.
struct Fields<'a>(&'a Value);

impl Fields<'_> {
    fn u32(&self, name: &str) -> u32 {
        self.0[name].as_u64().unwrap().try_into().unwrap()
    }

    fn u16(&self, name: &str) -> u16 {
        self.u32(name).try_into().unwrap()
    }

    fn u64(&self, name: &str) -> u64 {
        self.0[name].as_str().unwrap().parse().unwrap()
    }

    fn bytes(&self, name: &str) -> Bytes {
        unhex(self.0[name].as_str().unwrap()).into()
    }

    fn id16(&self, name: &str) -> [u8; 16] {
        self.bytes(name)[..].try_into().unwrap()
    }

    fn text(&self) -> Arc<str> {
        self.0["text"].as_str().unwrap().into()
    }

    fn has_flag(&self, name: &str) -> bool {
        self.0["flags"].as_array().unwrap().iter().any(|flag| flag == name)
    }

    fn message(&self, head: Head) -> Frame {
        let total = self.has_flag("MORE").then(|| self.u32("total"));
        Frame::Message { head, total, part: self.bytes("body") }
    }

    fn frame(&self, kind: &str) -> Frame {
        match kind {
            "HELLO" => Frame::Hello(Hello {
                min_version: self.u16("min_version"),
                max_version: self.u16("max_version"),
                client: ClientId(self.id16("client_id")),
                connection: self.u64("connection"),
                replaces: self.u64("replaces"),
                max_message: self.u32("max_message"),
                every: self.u32("heartbeat_every_ms"),
                give_up_after: self.u32("give_up_after_ms"),
                next_id: self.u64("next_id"),
            }),
            "WELCOME" => Frame::Welcome(Welcome {
                version: self.u16("version"),
                instance: InstanceId(self.id16("instance_id")),
                max_message: self.u32("max_message"),
                max_in_flight: self.u32("max_in_flight"),
                idle_limit: self.u32("idle_limit_ms"),
                every: self.u32("heartbeat_every_ms"),
                cached_calls: self.u32("cached_calls"),
                cached_bytes: self.u64("cached_bytes"),
                cache_age: self.u32("cache_age_ms"),
                memory: self.u64("memory"),
            }),
            "BUSY" => {
                let (code, retry_after) = (self.u32("code"), self.u32("retry_after_ms"));
                Frame::Busy { code, retry_after, text: self.text() }
            }
            "REJECT" => Frame::Reject { code: self.u32("code"), text: self.text() },
            "REQUEST" => self.message(Head::Request(RequestHead {
                id: self.u64("id"),
                repeatable: self.has_flag("REPEATABLE"),
                resent: self.has_flag("RESENT"),
                remaining: self.u32("remaining_ms"),
                oldest: self.u64("oldest"),
            })),
            "REPLY" => self.message(Head::Reply { id: self.u64("id") }),
            "NOTIFY" => self.message(Head::Notify { id: self.u64("id") }),
            "PUSH" => self.message(Head::Push { id: self.u64("id") }),
            "ERROR" => {
                let (id, code) = (self.u64("id"), self.u32("code"));
                Frame::Error { id, code, text: self.text() }
            }
            "REFUSED" => {
                let (id, code) = (self.u64("id"), self.u32("code"));
                Frame::Refused { id, code, retry_after: self.u32("retry_after_ms") }
            }
            "CHUNK" => {
                let last = self.has_flag("LAST");
                let position = if last { Position::Last } else { Position::Inner };
                Frame::Chunk { id: self.u64("id"), position, part: self.bytes("data") }
            }
            "CANCEL" => Frame::Cancel { id: self.u64("id") },
            "PING" => Frame::Ping { nonce: self.u64("nonce") },
            "PONG" => Frame::Pong { nonce: self.u64("nonce") },
            "GOAWAY" => Frame::GoAway(GoAway {
                code: self.u32("code"),
                accepted: self.u64("accepted"),
                retry_after: after(self.u32("retry_after_ms")),
                text: self.text(),
            }),
            unknown => {
                let kind = u8::from_str_radix(unknown.strip_prefix("0x").unwrap(), 16).unwrap();
                Frame::Unknown { kind }
            }
        }
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digits).collect()
}

#[test]
fn every_vector_decodes_to_its_fields_and_encodes_to_its_bytes() {
    let file = include_str!("../../../docs/protocol-vectors.json");
    let vectors: Value = serde_json::from_str(file).unwrap();
    let frames = vectors["frames"].as_array().unwrap();
    let mut kinds = std::collections::BTreeSet::new();
    for vector in frames {
        let (name, kind) = (vector["name"].as_str().unwrap(), vector["kind"].as_str().unwrap());
        let bytes = unhex(vector["hex"].as_str().unwrap());
        let expected = Fields(&vector["fields"]).frame(kind);
        let mut input = BytesMut::from(&bytes[..]);
        let payload = next_payload(&mut input).unwrap().expect(name);
        assert!(input.is_empty(), "{name}: more than one frame");
        assert_eq!(Frame::decode(payload).as_ref(), Ok(&expected), "{name}");
        let mut encoded = BytesMut::new();
        expected.encode(&mut encoded);
        let reencodes = vector["reencode"].as_bool().unwrap_or(true);
        assert!(encoded == bytes || !reencodes, "{name}: encodes as {encoded:02x?}");
        kinds.insert(bytes[4]);
    }
    let all = [1, 2, 3, 4, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x20, 0x21, 0x22];
    assert!(all.iter().all(|kind| kinds.contains(kind)), "only {kinds:02x?}");
}
