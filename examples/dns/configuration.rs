//! What an unbound must be told, see unbound.conf(5), to serve names of its own on loopback.

use std::net::{Ipv4Addr, SocketAddr};

/// It knows `0.example.test` to `999.example.test`, and asks `slow` for what is below `slow.test`. `more` are lines of the
/// section `server`.
pub(crate) fn configuration(listen: SocketAddr, slow: SocketAddr, more: &str) -> String {
    let mut text = format!(
        "server:
            interface: {host}@{port}
            port: {port}
            do-udp: no
            udp-upstream-without-downstream: yes
            access-control: 127.0.0.0/8 allow
            do-not-query-localhost: no
            module-config: iterator
            num-threads: 1
            username: \"\"
            chroot: \"\"
            directory: \"\"
            pidfile: \"\"
            use-syslog: no
            logfile: /dev/null
            verbosity: 0
            {more}
            local-zone: slow.test transparent
            local-zone: example.test static\n",
        host = listen.ip(),
        port = listen.port(),
    );
    for number in 0..1000 {
        text += &format!("local-data: \"{number}.example.test A {}\"\n", address_of(number));
    }
    let (host, port) = (slow.ip(), slow.port());
    text + &format!("forward-zone:\n name: slow.test\n forward-addr: {host}@{port}\n")
}

/// The address that a number's name has.
pub(crate) fn address_of(number: usize) -> Ipv4Addr {
    let [.., high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 0, high, low)
}
