//! What the examples' dialects make of any frame, and of any call: no panic.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use steadfast::{Dialect, Framing, Ordered};

#[allow(dead_code)]
#[path = "../../examples/dns/dialect.rs"]
mod dns;
#[allow(dead_code)]
#[path = "../../examples/memcached/dialect.rs"]
mod memcached;
#[allow(dead_code)]
#[path = "../../examples/memcached/packet.rs"]
mod packet;

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let dialect: &dyn Dialect = match choice % 3 {
        0 => &dns::Dns,
        1 => &memcached::Memcached,
        _ => &Ordered::new(Framing::u32_be()),
    };
    let body = Bytes::copy_from_slice(rest);
    let _ = dialect.received(body.clone());
    let _ = dialect.request(u64::from(*choice), body.clone(), &mut BytesMut::new());
    let _ = dialect.notification(body, &mut BytesMut::new());
});
