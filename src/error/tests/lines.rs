use super::*;

#[test]
fn a_loss_says_what_happened_how_long_nothing_came_why_and_the_code() {
    let (silent_for, stalled_for, bound) = (ms(15_000), ms(15_000), ms(15_000));
    for (cause, line) in [
        (LossCause::ClosedByPeer, "was closed by the peer after 3.2 s of silence (FIN)"),
        (
            LossCause::Os(os(ECONNRESET)),
            "was reset by the peer after 3.2 s of silence (ECONNRESET 104, WSAECONNRESET 10054)",
        ),
        (
            LossCause::Os(os(103)),
            "was aborted on this host after 3.2 s of silence (ECONNABORTED 103, WSAECONNABORTED 10053)",
        ),
        (
            LossCause::Os(os(ETIMEDOUT)),
            "timed out after 3.2 s of silence: the peer's host stopped acknowledging, or took nothing more \
             (ETIMEDOUT 110, WSAETIMEDOUT 10060)",
        ),
        (
            LossCause::Os(os(113)),
            "could no longer reach the host after 3.2 s of silence (EHOSTUNREACH 113, WSAEHOSTUNREACH 10065)",
        ),
        (
            LossCause::Os(os(32)),
            "could not be written to after 3.2 s of silence: the peer had closed it (EPIPE 32, WSAESHUTDOWN 10058)",
        ),
        (
            LossCause::Os(os(105)),
            "failed after 3.2 s of silence: this machine has no memory left for sockets \
             (ENOBUFS 105, WSAENOBUFS 10055)",
        ),
        (LossCause::Os(os(71)), "failed after 3.2 s of silence: Protocol error (code 71)"),
        (
            LossCause::Os(io::Error::other("the seal is broken").into()),
            "failed after 3.2 s of silence: the seal is broken",
        ),
        (
            LossCause::Silent { silent_for, bound },
            "was given up after 3.2 s of silence: a ping was not answered either (bound 15.0 s)",
        ),
        (
            LossCause::Stalled { stalled_for, bound },
            "was given up: not one byte could be sent for 15.0 s, the peer does not read or cannot be reached \
             (bound 15.0 s)",
        ),
        (
            violation().into(),
            "was closed on this side after 3.2 s of silence: the peer broke the protocol: unknown kind 0x55",
        ),
        (
            too_long(Opening::of(b"HTTP/1.1 400 Bad Request")).into(),
            "was closed on this side after 3.2 s of silence: the peer broke the protocol: frame of 1213486160 bytes \
             exceeds the limit of 65600, it begins with \"HTTP/1.1 400 Bad\", as HTTP does",
        ),
        (
            LossCause::SentAway(goodbye(GoAway::VIOLATION, "empty frame", None)),
            "was ended by the peer after 3.2 s of silence: it says that this side broke the protocol, in its words: \
             empty frame (GOAWAY 2)",
        ),
        (LossCause::ClosedHere, "was closed on this side"),
        (
            LossCause::Unanswered { calls: 1, silent_for },
            "was given up: it owes 1 answer that nobody waits for, for 15.0 s",
        ),
        (
            LossCause::Unanswered { calls: 2, silent_for },
            "was given up: it owes 2 answers that nobody waits for, for 15.0 s",
        ),
        (LossCause::Detached, "was taken over by its lease"),
        (
            Violation::Unasked.into(),
            "was closed on this side after 3.2 s of silence: the peer broke the protocol: it sent something that was not \
             asked for",
        ),
        (
            Violation::Malformed { what: "it ends before its id does" }.into(),
            "was closed on this side after 3.2 s of silence: the peer broke the protocol: malformed frame: it ends before \
             its id does",
        ),
        (
            Violation::FrameTooShort { length: 2, header: 4 }.into(),
            "was closed on this side after 3.2 s of silence: the peer broke the protocol: frame of 2 bytes is shorter than \
             its header of 4",
        ),
        (
            Violation::WrongMagic { magic: b"\xab\xcd", came: Opening::of(b"SSH-2.0-x") }.into(),
            "was closed on this side after 3.2 s of silence: the peer broke the protocol: frame begins with \
             \"SSH-2.0-x\", as SSH does, not with \"\\xab\\xcd\"",
        ),
        // The peer is not to blame.
        (
            LossCause::DialectPanicked,
            "was closed on this side after 3.2 s of silence: the dialect panicked over a frame",
        ),
    ] {
        assert_eq!(loss(cause).to_string(), format!("connection to orders:7000 {line}"));
    }
}

#[test]
fn a_loss_names_the_address_that_the_name_led_to() {
    let address = Some("10.0.0.1:7000".parse().unwrap());
    let loss = Loss { address, ..(*loss(LossCause::ClosedHere)).clone() };
    assert_eq!(
        loss.to_string(),
        "connection to orders:7000 [10.0.0.1:7000] was closed on this side"
    );
}

#[test]
fn a_post_mortem_has_what_is_known_beside_the_cause() {
    let gone = TcpInfo { state: TcpState::Close, flow: None };
    let flow = TcpFlow {
        rtt: Duration::from_micros(87),
        retransmits: 13,
        timeouts: 5,
        unacknowledged: 4321,
        unread: 0,
    };
    let alive = TcpInfo { state: TcpState::Established, flow: Some(flow) };
    let life = "connection 3, 1 min 0 s old; got 120 bytes in 7 frames and a part of one, sent 26 in 1 frame; reading \
                met end of file, writing met the peer had closed before this was written \
                (EPIPE 32, WSAESHUTDOWN 10058)";
    for (tcp, more) in [
        (None, ""),
        (Some(gone), "; TCP: CLOSE"),
        (
            Some(alive),
            "; TCP: ESTABLISHED, round trip 87µs, 13 retransmits, 5 of them in a row, 4321 bytes unacknowledged, 0 \
             unread",
        ),
    ] {
        let loss = Loss { tcp, ..(*loss(LossCause::ClosedByPeer)).clone() };
        assert_eq!(loss.post_mortem().to_string(), format!("{life}{more}"));
    }
}

#[test]
fn a_failed_attempt_says_where_how_long_why_and_the_code() {
    let text = |phase, cause| connect(phase, cause).to_string();
    assert_eq!(
        text(Phase::Connect, ConnectCause::Os(os(ECONNREFUSED))),
        "connecting to orders:7000 [10.0.0.1:7000] failed after 4 ms: nothing listens there \
         (ECONNREFUSED 111, WSAECONNREFUSED 10061)"
    );
    assert_eq!(
        text(Phase::Handshake, http()),
        "the handshake with orders:7000 [10.0.0.1:7000] failed after 4 ms: what answers there does not speak the \
         protocol: it began with \"HTTP/1.1 400 Bad\", as HTTP does \
         (frame of 1213486160 bytes exceeds the limit of 65600)"
    );
    let busy = Busy { code: Busy::TOO_MANY, retry_after: Some(ms(3000)), text: "full".into() };
    assert_eq!(
        text(Phase::Handshake, ConnectCause::Busy(busy)),
        "the handshake with orders:7000 [10.0.0.1:7000] failed after 4 ms: the server is busy: full, and asks to be \
         left alone for 3.0 s (BUSY 1)"
    );
    let rejection = Rejection { code: Rejection::NOT_ALLOWED, text: "".into() };
    assert_eq!(
        text(Phase::Handshake, ConnectCause::Rejected(rejection)),
        "the handshake with orders:7000 [10.0.0.1:7000] failed after 4 ms: the server rejected this client: it gave \
         no reason (REJECT 3)"
    );
    assert_eq!(
        text(Phase::Handshake, ConnectCause::ProtocolPanicked),
        "the handshake with orders:7000 [10.0.0.1:7000] failed after 4 ms: the protocol panicked"
    );
    let too_long = Unframeable::TooLong { length: 300, limit: 255 };
    assert_eq!(
        text(Phase::Handshake, ConnectCause::Unsendable(too_long.into())),
        "the handshake with orders:7000 [10.0.0.1:7000] failed after 4 ms: what is said first cannot be sent: frame of \
         300 bytes exceeds the limit of 255"
    );
    let again = io::Error::other("failed to lookup address information: Try again");
    assert_eq!(
        text(Phase::Resolve, ConnectCause::Os(again.into())),
        "resolving the name of orders:7000 failed after 4 ms: no name server gave an answer, one may the next time \
         (EAI_AGAIN, WSATRY_AGAIN 11002)"
    );
}

#[test]
fn an_outage_says_how_it_began_how_long_it_lasts_and_what_was_tried() {
    let refused = || Some(connect(Phase::Connect, ConnectCause::Os(os(ECONNREFUSED))));
    let reset = Began::Lost(loss(LossCause::Os(os(ECONNRESET))));
    let reset_text = "was reset by the peer (ECONNRESET 104, WSAECONNRESET 10054)";
    let refused_text = "5 attempts failed, the last: connecting to 10.0.0.1:7000 failed after 4 ms: nothing \
                        listens there (ECONNREFUSED 111, WSAECONNREFUSED 10061)";
    for (began, last, line) in [
        (Began::NeverConnected, None, " yet, after 12.3 s; the first attempt is under way".into()),
        (Began::NeverConnected, refused(), format!(" yet, after 12.3 s; {refused_text}")),
        (Began::Unknown, None, " for 12.3 s; no attempt has failed since".into()),
        (
            reset,
            refused(),
            format!(" for 12.3 s, since the last one {reset_text}; {refused_text}"),
        ),
        (
            Began::SentAway(goodbye(GoAway::CLOSING, "", Some(ms(1000)))),
            None,
            " for 12.3 s, since the server sent the last one away: it shuts down, and asks to be left alone for 1.0 s \
             (GOAWAY 0); no attempt has failed since"
                .into(),
        ),
    ] {
        assert_eq!(outage(began, last).to_string(), format!("no connection to orders:7000{line}"));
    }
    let mut connected = Arc::unwrap_or_clone(outage(Began::NeverConnected, None));
    connected.connected = Some(([10, 0, 0, 1], 7000).into());
    let line = "no connection to orders:7000 yet, after 12.3 s; the first attempt is under way; 10.0.0.1:7000 is connected, \
                and has not answered the handshake yet";
    assert_eq!(connected.to_string(), line);
    let mut idle = Arc::unwrap_or_clone(outage(Began::Unknown, None));
    idle.next_in = Some(ms(2100));
    let line = "no connection to orders:7000 for 12.3 s; no attempt has failed since; the next is made within 2.1 s";
    assert_eq!(idle.to_string(), line);
}

#[test]
fn a_failed_call_says_also_whether_it_may_have_run() {
    let reset = || CallCause::Lost(loss(LossCause::Os(os(ECONNRESET))));
    let line = "connection to orders:7000 was reset by the peer after 3.2 s of silence \
                (ECONNRESET 104, WSAECONNRESET 10054); the request had left, so it may have run";
    let once = call(Outcome::Indeterminate, reset(), Stopped::NotIdempotent, 1);
    assert_eq!(once.to_string(), line);
    let again = |stopped| call(Outcome::Indeterminate, reset(), stopped, 4).to_string();
    assert_eq!(
        again(Stopped::AttemptsSpent),
        format!("{line}; given up after 4 attempts in 1.2 s")
    );
    assert_eq!(
        again(Stopped::BudgetSpent),
        format!(
            "{line}; not tried again, the retry budget is spent; given up after 4 attempts in 1.2 s"
        )
    );
    assert_eq!(
        again(Stopped::Deadline),
        format!(
            "{line}; not tried again, its deadline left no time; given up after 4 attempts in 1.2 s"
        )
    );
}

#[test]
fn a_call_whose_last_attempt_did_not_run_tells_of_the_connection_on_which_an_earlier_one_may_have()
{
    let lost = loss(LossCause::Os(os(ECONNRESET)));
    let full = Full { in_flight: 64, connections: 1 };
    let (stage, scarcity) = (Stage::Connection, Some(Scarcity::Full(full)));
    let cause = CallCause::TimedOut { limit: ms(500), stage, scarcity };
    let error = call(Outcome::Indeterminate, cause, Stopped::Deadline, 1).after(Some(&lost));
    assert_eq!(
        error.to_string(),
        "orders:7000: no place on a connection within 500 ms: all places were taken, 64 in use on 1 connection; an \
         earlier attempt had left, so it may have run: connection to orders:7000 was reset by the peer after 3.2 s of \
         silence (ECONNRESET 104, WSAECONNRESET 10054)"
    );
    assert!(error.source().unwrap().is::<OsError>());
    assert_eq!(error.earlier(), Some(&lost));
    let evicted =
        call(Outcome::Indeterminate, CallCause::Evicted, Stopped::Final, 2).after(Some(&lost));
    assert!(evicted.to_string().contains(&format!("so it may have run: {lost}")), "{evicted}");
    // Said already.
    let cause = CallCause::Lost(lost.clone());
    let error = call(Outcome::Indeterminate, cause, Stopped::Deadline, 2).after(Some(&lost));
    assert_eq!(error.earlier(), None);
}

#[test]
fn a_call_that_timed_out_says_what_it_waited_for() {
    let text = |outcome, stage, scarcity| {
        let cause = CallCause::TimedOut { limit: ms(500), stage, scarcity };
        call(outcome, cause, Stopped::Deadline, 1).to_string()
    };
    assert_eq!(
        text(Outcome::Indeterminate, Stage::Reply, None),
        "orders:7000: no reply within 500 ms; the request had left, so it may have run"
    );
    assert_eq!(
        text(Outcome::NotSent, Stage::Sending, None),
        "orders:7000: sending it did not end within 500 ms; the request was not sent, so it did not run"
    );
    let full = Full { in_flight: 64, connections: 1 };
    assert_eq!(
        text(Outcome::NotSent, Stage::Connection, Some(Scarcity::Full(full))),
        "orders:7000: no place on a connection within 500 ms: all places were taken, 64 in use on 1 \
         connection; the request was not sent, so it did not run"
    );
    let down = outage(Began::NeverConnected, None);
    assert_eq!(
        text(Outcome::NotSent, Stage::Connection, Some(Scarcity::Outage(down))),
        "no place on a connection within 500 ms: no connection to orders:7000 yet, after 12.3 s; the first attempt is \
         under way; the request was not sent, so it did not run"
    );
}

#[test]
fn what_the_server_or_this_side_said_no_to_says_who_and_why() {
    let refusal = Refusal { code: Refusal::OVERLOADED, retry_after: Some(ms(50)) };
    let away = goodbye(GoAway::CLOSING, "the server is shutting down", None);
    for (outcome, cause, line) in [
        (
            Outcome::Refused,
            CallCause::Refused(refusal),
            "the server is overloaded, and asks to be left alone for 50 ms (REFUSED 1); the server refused the \
             request, so it did not run",
        ),
        (
            Outcome::Refused,
            CallCause::SentAway(away),
            "the server sent the connection away: it shuts down, in its words: the server is shutting down (GOAWAY 0); \
             the server refused the request, so it did not run",
        ),
        (
            Outcome::Remote,
            CallCause::Remote(ErrorReply::new(404, "no such fruit")),
            "the server answered with error 404: no such fruit; the request ran",
        ),
        (
            Outcome::NotSent,
            CallCause::Overloaded(Overload::Waiting { limit: 9 }),
            "this side is overloaded: as many calls wait for a connection as may, 9; the request was not sent, so it \
             did not run",
        ),
        (
            Outcome::NotSent,
            CallCause::Overloaded(Overload::Ids { limit: 255 }),
            "this side is overloaded: all 255 ids of the connection wait for answers; the request was not sent, so it \
             did not run",
        ),
        (
            Outcome::NotSent,
            CallCause::Unsendable(Unsendable::Refused { why: "it has no topic" }),
            "no frame can be made of the request: it has no topic; the request was not sent, so it did not run",
        ),
        (
            Outcome::NotSent,
            CallCause::Closed,
            "the pool is closed; the request was not sent, so it did not run",
        ),
    ] {
        assert_eq!(failed(outcome, cause).to_string(), format!("orders:7000: {line}"));
    }
}
