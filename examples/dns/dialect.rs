//! What steadfast must know of DNS over TCP (RFC 1035, section 4.2.2, and RFC 7766): all of it is here.

use bytes::{BufMut as _, BytesMut};
use simple_dns::{CLASS, Name, Packet, Question, SimpleDnsError, TYPE};
use steadfast::{Bytes, Dialect, Framing, Matching, Meaning, Protocol, To, Unsendable, Violation};

/// The length of what stands before the question.
const HEADER: usize = 12;
/// In the third byte: it is a response.
const RESPONSE: u8 = 0x80;

/// A call's body is a query, whatever its id; its reply is the response. Only the two bytes of the id are touched, and
/// only the header is looked at.
#[derive(Debug, Clone)]
pub(crate) struct Dns;

impl Dialect for Dns {
    fn framing(&self) -> Framing {
        Framing::u16_be()
    }

    /// A server may answer in any order (RFC 7766, section 7).
    fn matching(&self) -> Matching {
        Matching::ById { min: 0, max: u16::MAX.into() }
    }

    fn request(&self, id: u64, body: Bytes, head: &mut BytesMut) -> Result<Bytes, Unsendable> {
        if body.len() < HEADER {
            return Err(Unsendable::Refused { why: "not a DNS message" });
        }
        head.put_u16(id as u16);
        Ok(body.slice(2..))
    }

    fn received(&self, frame: Bytes) -> Result<Meaning, Violation> {
        if frame.len() < HEADER || frame[2] & RESPONSE == 0 {
            return Err(Violation::Malformed { what: "it is no DNS response" });
        }
        let to = To::Id(u16::from_be_bytes([frame[0], frame[1]]).into());
        Ok(Meaning::Reply { to, body: frame })
    }

    /// Asks the server for its name (RFC 4892): it need not ask another, and a refusal is a sign of life as well.
    fn ping(&self, id: u64) -> Option<Bytes> {
        query("id.server", TYPE::TXT, CLASS::CH, id as u16).ok()
    }
}

/// Nothing is said before the first query.
impl Protocol for Dns {}

/// A query for which the server may ask others.
pub(crate) fn query(
    name: &str,
    kind: TYPE,
    class: CLASS,
    id: u16,
) -> Result<Bytes, SimpleDnsError> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(simple_dns::PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(Name::new(name)?, kind.into(), class.into(), false));
    packet.build_bytes_vec().map(Bytes::from)
}
