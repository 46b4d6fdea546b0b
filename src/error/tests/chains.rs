use super::*;

/// One error of every kind, with the code that must be found below it.
fn every_kind() -> Vec<(Box<dyn Error>, Option<i32>)> {
    let mut errors: Vec<(Box<dyn Error>, Option<i32>)> = Vec::new();
    let mut add = |error: Box<dyn Error>, code| errors.push((error, code));
    for (cause, code) in losses() {
        let loss = loss(cause);
        add(Box::new(failed(Outcome::Indeterminate, CallCause::Lost(loss.clone()))), code);
        add(Box::new(connect(Phase::Hook, ConnectCause::Lost(loss.clone()))), code);
        let [previous, current] = [1, 2].map(|byte| InstanceId([byte; 16]));
        let replaced = CallCause::Replaced { loss: loss.clone(), previous, current };
        add(Box::new(failed(Outcome::Indeterminate, replaced)), code);
        let outage = outage(Began::Lost(loss.clone()), None);
        add(Box::new(failed(Outcome::NotSent, CallCause::Unavailable(outage.clone()))), code);
        add(Box::new(ReadyError::Unavailable(outage)), code);
        add(Box::new(loss), code);
    }
    for (cause, code) in connects() {
        let error = connect(Phase::Connect, cause);
        let outage = outage(Began::NeverConnected, Some(error.clone()));
        add(Box::new(ReadyError::Unavailable(outage.clone())), code);
        add(Box::new(failed(Outcome::NotSent, CallCause::Unavailable(outage.clone()))), code);
        add(Box::new(failed(Outcome::NotSent, timed_out(Scarcity::Outage(outage)))), code);
        add(Box::new(error), code);
    }
    for cause in calls() {
        add(Box::new(failed(Outcome::NotSent, cause)), None);
    }
    let endpoint = EndpointError::NoPort;
    add(Box::new(ConfigError::Endpoint { endpoint: "orders".into(), cause: endpoint }), None);
    add(Box::new(ReadyError::Closed), None);
    add(Box::new(CloseError { unfinished: 2 }), None);
    errors
}

pub(super) fn losses() -> Vec<(LossCause, Option<i32>)> {
    let (silent_for, stalled_for, bound) = (ms(15_000), ms(15_000), ms(15_000));
    let mut losses = vec![
        (LossCause::ClosedByPeer, None),
        (LossCause::Os(os(ECONNRESET)), Some(ECONNRESET)),
        (LossCause::Os(os(ETIMEDOUT)), Some(ETIMEDOUT)),
        (LossCause::Os(io::Error::other("the seal is broken").into()), None),
        (LossCause::Silent { silent_for, bound }, None),
        (LossCause::Stalled { stalled_for, bound }, None),
        (LossCause::Violation(violation()), None),
        (LossCause::Violation(too_long(Opening::of(b"HTTP/1.1 400 Bad Request"))), None),
        (LossCause::SentAway(goodbye(0, "", None)), None),
        (LossCause::ClosedHere, None),
        (LossCause::Unanswered { calls: 2, silent_for }, None),
        (LossCause::DialectPanicked, None),
        (LossCause::Detached, None),
    ];
    losses.extend(foreign_violations().map(|violation| (violation.into(), None)));
    losses
}

/// Those that only a foreign protocol knows.
pub(super) fn foreign_violations() -> [Violation; 4] {
    let came = Opening::of(b"HTTP/1.1 400 Bad Request");
    [
        Violation::FrameTooShort { length: 2, header: 4 },
        Violation::WrongMagic { magic: b"\xab\xcd", came },
        Violation::Malformed { what: "it ends before its id does" },
        Violation::Unasked,
    ]
}

pub(super) fn connects() -> Vec<(ConnectCause, Option<i32>)> {
    let rejection = Rejection { code: Rejection::NOT_ALLOWED, text: "not you".into() };
    let reset = CallCause::Lost(loss(LossCause::Os(os(ECONNRESET))));
    let opening = Opening::of(b"FULL");
    let violation = Violation::FrameTooLong { length: 0x4c55, limit: 1000, came: opening };
    let no_frame = ConnectCause::NoFrame { violation, opening };
    vec![
        (ConnectCause::TimedOut { limit: ms(5) }, None),
        (ConnectCause::NoAddress, None),
        (ConnectCause::Os(os(ECONNREFUSED)), Some(ECONNREFUSED)),
        (ConnectCause::ClosedByPeer, None),
        (ConnectCause::Busy(Busy { code: 1, retry_after: None, text: "".into() }), None),
        (ConnectCause::Rejected(rejection), None),
        (http(), None),
        (hook(io::Error::other("the password is wrong")), None),
        (hook(failed(Outcome::Indeterminate, reset)), Some(ECONNRESET)),
        (no_frame, None),
        (ConnectCause::SentAway(goodbye(0, "", None)), None),
        (ConnectCause::HalfAFrame, None),
        (ConnectCause::HookPanicked, None),
        (ConnectCause::ProtocolPanicked, None),
        (ConnectCause::Unsendable(Unsendable::Refused { why: "it has no topic" }), None),
        (ConnectCause::ConnectorPanicked, None),
    ]
}

fn too_short() -> Unsendable {
    Unframeable::TooShort { length: 2, header: 4 }.into()
}

fn timed_out(scarcity: Scarcity) -> CallCause {
    CallCause::TimedOut { limit: ms(500), stage: Stage::Connection, scarcity: Some(scarcity) }
}

pub(super) fn calls() -> Vec<CallCause> {
    vec![
        timed_out(Scarcity::Full(Full { in_flight: 64, connections: 4 })),
        timed_out(Scarcity::OutOfReach),
        CallCause::Overloaded(Overload::Waiting { limit: 9 }),
        CallCause::Overloaded(Overload::Ids { limit: 255 }),
        CallCause::Refused(Refusal { code: Refusal::OVERLOADED, retry_after: None }),
        CallCause::SentAway(goodbye(0, "", None)),
        CallCause::Remote(ErrorReply::new(404, "no such fruit")),
        CallCause::TooLong { length: 2, limit: 1 },
        CallCause::Evicted,
        CallCause::Unsendable(too_short()),
        CallCause::Unsendable(Unsendable::Refused { why: "it has no topic" }),
        CallCause::Config(ConfigError::Number { name: "attempts", value: 0, min: 1, max: 100 }),
        CallCause::Draining,
        CallCause::Closed,
    ]
}

pub(super) fn leases() -> [LeaseCause; 4] {
    [
        LeaseCause::TimedOut { limit: ms(500), scarcity: None },
        LeaseCause::Overloaded(Overload::Waiting { limit: 9 }),
        LeaseCause::NotLent,
        LeaseCause::Closed,
    ]
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source()).collect()
}

/// Whether a text has some part of another: what stands between its punctuation, in whatever case.
fn repeats(text: &str, other: &str) -> bool {
    let text = text.to_lowercase();
    other
        .to_lowercase()
        .split([':', ';', ',', '(', ')'])
        .map(str::trim)
        .any(|part| !part.is_empty() && text.contains(part))
}

#[test]
fn no_level_of_a_chain_says_what_another_has_said() {
    for (error, _) in every_kind() {
        let levels: Vec<_> = chain(&*error).iter().map(ToString::to_string).collect();
        for (at, upper) in levels.iter().enumerate() {
            for lower in &levels[at + 1..] {
                assert!(!repeats(upper, lower) && !repeats(lower, upper), "{levels:#?}");
            }
        }
    }
}

#[test]
fn the_operating_systems_error_is_found_where_there_is_one() {
    for (error, code) in every_kind() {
        let os = chain(&*error).into_iter().find_map(|error| error.downcast_ref::<OsError>());
        assert_eq!(os.and_then(OsError::code), code, "{error}");
        assert_eq!(os.map(|os| io::Error::from(os).raw_os_error()), code.map(Some), "{error}");
    }
}

#[test]
fn below_a_hooks_error_the_chain_goes_on() {
    let error = connect(Phase::Hook, hook(LogIn(io::Error::other("no such user"))));
    let levels: Vec<_> = chain(&error).iter().map(ToString::to_string).collect();
    assert_eq!(
        levels,
        [
            "the on-connect hook for orders:7000 [10.0.0.1:7000] failed after 4 ms: logging in failed",
            "no such user"
        ]
    );
}

#[test]
fn every_line_is_one_line_and_names_the_place() {
    for (error, _) in every_kind() {
        let line = error.to_string();
        assert!(!line.contains('\n'), "{line}");
        let is_of_a_peer = error.downcast_ref::<CallError>().is_some()
            || error.downcast_ref::<Arc<Loss>>().is_some()
            || error.downcast_ref::<Arc<ConnectError>>().is_some();
        assert!(!is_of_a_peer || line.contains("orders:7000"), "{line}");
    }
}
