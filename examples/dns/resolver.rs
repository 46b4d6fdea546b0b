//! The resolver that an application would see, over a pool.

use std::net::Ipv4Addr;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, RCODE, SimpleDnsError, TYPE};
use steadfast::{CallError, Pool};

use crate::dialect::query;

/// Cheap to clone, as the pool is.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    pool: Pool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    #[error("not a name, or not a response: {0}")]
    Message(#[from] SimpleDnsError),
    #[error("the response is to another question")]
    NotAsked,
    #[error("the server says {0:?}")]
    Server(RCODE),
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Resolver {
    pub(crate) fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// The IPv4 addresses of a name; none if there is no such name. Asking twice is harmless.
    pub(crate) async fn lookup(&self, name: &str) -> Result<Vec<Ipv4Addr>, LookupError> {
        // The dialect overwrites the id.
        let query = query(name, TYPE::A, CLASS::IN, 0)?;
        let response = self.pool.request(query).idempotent().send().await?;
        let response = Packet::parse(&response)?;
        if !response.questions.iter().map(|question| &question.qname).eq([&Name::new(name)?]) {
            return Err(LookupError::NotAsked);
        }
        match response.rcode() {
            RCODE::NoError | RCODE::NameError => {}
            code => return Err(LookupError::Server(code)),
        }
        let addresses = response.answers.iter().filter_map(|record| match &record.rdata {
            RData::A(a) => Some(a.address.into()),
            _ => None,
        });
        Ok(addresses.collect())
    }
}
