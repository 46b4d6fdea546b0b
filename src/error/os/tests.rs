use std::collections::HashSet;

use super::*;

#[cfg(target_os = "linux")]
fn os(code: i32) -> OsError {
    io::Error::from_raw_os_error(code).into()
}

#[test]
#[cfg(target_os = "linux")]
fn codes_without_a_kind_are_known_by_number() {
    let emfile = os(24);
    assert_eq!(emfile.name(), Some("EMFILE"));
    assert_eq!(
        emfile.meaning().to_string(),
        "this process has no file descriptor left (EMFILE 24, WSAEMFILE 10024)"
    );
}

/// Also on Windows, where people look for 10054 and 10053.
#[test]
fn each_number_of_this_platform_is_told_under_both_names() {
    for known in KNOWN.iter() {
        let Some(code) = known.native_code() else { continue };
        let error = OsError::from(io::Error::from_raw_os_error(code));
        assert_eq!(error.code(), Some(code));
        let meaning = error.meaning().to_string();
        let winsock = format!(", {} {})", known.winsock, known.winsock_code);
        assert!(meaning.ends_with(&winsock), "{code}: {meaning}");
        // What the standard library takes it for; it has its own tables, and on Windows no kind for a socket that was shut.
        let is_told_apart = !(cfg!(windows) && code == 10058);
        let kind = known.kind.filter(|_| is_told_apart);
        assert!(kind.is_none_or(|kind| kind == error.kind()), "{code}: {:?}", error.kind());
    }
}

#[test]
#[cfg(windows)]
fn the_numbers_of_windows_are_those_that_people_search_for() {
    for (code, unix, words) in [
        (10053, "ECONNABORTED", "this host aborted the connection"),
        (10054, "ECONNRESET", "the peer reset the connection"),
        (10060, "ETIMEDOUT", "the peer's host did not answer"),
        (10061, "ECONNREFUSED", "nothing listens there"),
    ] {
        let error = OsError::from(io::Error::from_raw_os_error(code));
        assert_eq!((error.name(), &*error.words()), (Some(unix), words));
    }
}

#[test]
fn a_kind_without_a_number_has_its_names_all_the_same() {
    let reset = OsError::from(io::ErrorKind::ConnectionReset);
    assert_eq!(
        reset.meaning().to_string(),
        "the peer reset the connection (ECONNRESET 104, WSAECONNRESET 10054)"
    );
    assert_eq!(reset.code(), None);
}

#[test]
fn a_text_without_a_number_is_kept() {
    for error in [io::Error::other("the seal is broken"), io::ErrorKind::WriteZero.into()] {
        let text = error.to_string();
        let error = OsError::from(error);
        assert_eq!((error.to_string(), error.meaning().to_string()), (text.clone(), text));
        assert_eq!((error.code(), error.name()), (None, None));
    }
    let wrapped = io::Error::new(io::ErrorKind::ConnectionReset, "the seal is broken");
    assert_eq!(
        OsError::from(wrapped).meaning().to_string(),
        "the seal is broken (ECONNRESET 104, WSAECONNRESET 10054)"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_number_that_no_table_has_is_told_in_the_systems_words() {
    let error = os(71);
    assert_eq!(error.meaning().to_string(), "Protocol error (code 71)");
    assert_eq!((error.to_string(), error.name()), ("os error 71".into(), None));
}

#[test]
fn the_resolvers_answer_is_told_from_its_text() {
    for (text, name) in [
        ("Name or service not known", Some("EAI_NONAME")),
        ("Temporary failure in name resolution", Some("EAI_AGAIN")),
        ("Try again", Some("EAI_AGAIN")),
        ("something that no C library says", None),
    ] {
        let text = format!("failed to lookup address information: {text}");
        let error = OsError::from(io::Error::other(text.clone()));
        assert_eq!(error.name(), name, "{text}");
        assert_eq!(error.to_string(), text);
        assert_eq!(error.link().is_some(), name.is_some(), "{text}");
    }
    let again = io::Error::other("failed to lookup address information: Try again");
    assert_eq!(
        OsError::from(again).meaning().to_string(),
        "no name server gave an answer, one may the next time (EAI_AGAIN, WSATRY_AGAIN 11002)"
    );
}

#[test]
fn an_io_error_goes_there_and_back() {
    for error in [
        io::Error::from_raw_os_error(if cfg!(windows) { 10054 } else { 32 }),
        io::ErrorKind::TimedOut.into(),
        io::Error::new(io::ErrorKind::InvalidData, "the seal is broken"),
    ] {
        let there = OsError::from(&error);
        let back = io::Error::from(&there);
        assert_eq!(back.raw_os_error(), error.raw_os_error());
        assert_eq!((back.kind(), back.to_string()), (error.kind(), error.to_string()));
        assert_eq!((there.to_string(), OsError::from(back)), (error.to_string(), there));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn our_words_are_never_the_systems() {
    for known in KNOWN.iter().filter(|known| known.native_code().is_some()) {
        let error = os(known.native_code().unwrap());
        assert_eq!(error.name(), Some(known.unix));
        let theirs = error.to_string().to_lowercase();
        let theirs = theirs.split(" (").next().unwrap();
        let (fate, reason) = error.fate();
        for ours in [&error.words(), fate, &reason.unwrap_or_default()] {
            assert!(!ours.to_lowercase().contains(theirs), "{ours:?} has {theirs:?}");
        }
    }
}

#[test]
fn each_error_is_explained_to_people() {
    let page = include_str!("../../../docs/when-connections-die.md");
    // The line below a section's title.
    let codes: Vec<_> = page.lines().filter(|line| line.starts_with("*E")).collect();
    let table: Vec<_> = page.lines().filter(|line| line.starts_with('|')).collect();
    for known in &KNOWN {
        let shown = known.to_string();
        let (unix, winsock) = shown.split_once(", ").unwrap();
        let explained = codes.iter().any(|line| line.contains(unix) && line.contains(winsock));
        assert!(explained, "no section is about {shown}");
        assert!(table.iter().any(|row| row.contains(known.unix)), "no row has {}", known.unix);
        // What one sees of it, alone and as the end of a connection.
        let fate = known.fate.map(|(fate, _)| fate);
        for seen in [Some(known.words), fate].into_iter().flatten() {
            let is_told =
                |row: &&str| row.split('`').skip(1).step_by(2).any(|text| seen.contains(text));
            assert!(table.iter().any(is_told), "no row leads from {seen:?}");
        }
    }
}

#[test]
fn each_error_is_there_once() {
    let names: HashSet<_> = KNOWN.iter().map(|known| known.unix).collect();
    assert_eq!(names.len(), KNOWN.len());
}
