//! However the bytes are cut, the same things happen.

use std::time::Instant;

use crate::fuzzing::end::End;
use crate::fuzzing::script::Script;
use crate::fuzzing::server_session::serving;

/// The first bytes say how it is cut, the rest makes frames.
pub fn splits(data: &[u8]) {
    let (mut script, now) = (Script::new(data), Instant::now());
    let cuts: Vec<_> = (0..script.byte() % 16).map(|_| usize::from(script.short()) + 1).collect();
    let mut stream = Vec::new();
    while !script.is_over() {
        if script.byte() % 16 == 0 {
            let noise = usize::from(script.byte());
            stream.extend_from_slice(script.take(noise));
        } else {
            stream.extend_from_slice(&script.frame());
        }
    }
    let whole = heard(now, [&stream[..]].into_iter());
    let mut rest = &stream[..];
    let mut cuts = cuts.into_iter().cycle();
    let pieces = std::iter::from_fn(|| {
        let cut = cuts.next().unwrap_or(1).min(rest.len());
        let (piece, behind) = rest.split_at(cut);
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    });
    assert_eq!(heard(now, pieces), whole);
}

fn heard<'a>(now: Instant, pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, bool) {
    let mut end = End::new(now, serving(now));
    let mut events = Vec::new();
    for piece in pieces {
        end.hear(piece);
        events.extend(end.effects.events.drain(..).map(|event| format!("{event:?}")));
    }
    (events, end.is_over())
}
