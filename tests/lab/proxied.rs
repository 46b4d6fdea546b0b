//! A TCP proxy in between (a real haproxy): it accepts whatever stands behind it, and turns each end into a FIN.

use std::process::{Child, Stdio};
use std::time::Instant;

use crate::page::{row, thrice};
use crate::scene::Stage;
use crate::support::lab::{Lab, ROUTER, SERVER};
use crate::support::times::ms;
use crate::support::waits::until;

/// A heartbeat that has nothing to do with it, and a handshake that has as long as haproxy tries.
const CALM: [(&str, &str); 3] = [("EVERY", "20000"), ("GIVE_UP", "20000"), ("HANDSHAKE", "6000")];

/// The client does not see what is behind it.
const TO: [(&str, &str); 1] = [("TO", "10.77.1.1:7000")];

/// Killed and reaped when dropped.
#[derive(Debug)]
struct Proxy(Child);

impl Proxy {
    /// On the router. `server` are words more about the server, as `check`.
    fn start(lab: &Lab, server: &str) -> Self {
        let configuration = format!(
            "defaults
                mode tcp
                retries 2
                timeout connect 1s
                timeout client 2s
                timeout server 2s
             frontend in
                bind {ROUTER}:7000
                default_backend out
             backend out
                server one {SERVER}:7000 {server}\n"
        );
        let path = lab.file("m", "haproxy.cfg", &configuration);
        let mut command = lab.command("m", &["haproxy", "-db", "-q", "-f", &path]);
        Self(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("haproxy"))
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A proxy that listens.
async fn proxy(lab: &Lab, server: &str) -> Proxy {
    let proxy = Proxy::start(lab, server);
    until("haproxy", || lab.is_listening("m", 7000)).await;
    proxy
}

#[tokio::test]
async fn row_24a_a_proxy_whose_server_refuses_closes_in_the_handshake() {
    thrice(async || {
        let Some(stage) = Stage::empty() else { return Ok(()) };
        let _proxy = proxy(&stage.lab, "").await;
        let began = Instant::now();
        let mut scene = stage.client(&[&CALM[..], &TO].concat());
        scene.tells(&row("24a"), began).await?;
        scene.start_server(SERVER).await;
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_24b_a_proxy_that_knows_that_its_server_is_down_closes_at_once() {
    thrice(async || {
        let Some(stage) = Stage::empty() else { return Ok(()) };
        let _proxy = proxy(&stage.lab, "check inter 100 fall 1 rise 1").await;
        // Its checks have failed.
        until("a check", || stage.lab.refused("m") > 2).await;
        let began = Instant::now();
        let mut scene = stage.client(&[&CALM[..], &TO].concat());
        scene.tells(&row("24b"), began).await?;
        scene.start_server(SERVER).await;
        scene.ends_well().await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_24c_a_proxys_idle_time_out_never_comes_with_a_heartbeat_below_it_and_is_a_fin_without()
{
    thrice(async || {
        let heartbeat = [("EVERY", "700"), ("GIVE_UP", "2000")];
        for (settings, is_kept) in [(&heartbeat[..], true), (&CALM[..], false)] {
            let Some(stage) = Stage::empty() else { return Ok(()) };
            let stage = stage.server("lab server", &[("EVERY", "60000")]).await;
            let _proxy = proxy(&stage.lab, "").await;
            let mut scene = stage.client(&[settings, &TO].concat());
            scene.client.said("ready ").await;
            scene.recovers().await;
            let idle = Instant::now();
            if is_kept {
                // Twice as long as the time-out.
                tokio::time::sleep(ms(4000)).await;
                scene.recovers().await;
                scene.client.never_said("lost");
                row("24c").survived();
            } else {
                scene.tells(&row("24c calm"), idle).await?;
            }
            scene.ends_well().await;
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn row_24d_what_becomes_of_the_server_or_of_the_proxy_is_a_fin() {
    thrice(async || {
        let Some(stage) = Stage::empty() else { return Ok(()) };
        let stage = stage.server("lab server", &CALM).await;
        let mut proxy_now = proxy(&stage.lab, "").await;
        let mut scene = stage.client(&[&[("EVERY", "700"), ("GIVE_UP", "2000")][..], &TO].concat());
        scene.client.said("ready ").await;
        scene.recovers().await;
        let killed = Instant::now();
        scene.server().kill();
        scene.tells(&row("24d server"), killed).await?;
        scene.server().wait();
        scene.start_server(SERVER).await;
        scene.recovers().await;
        // The proxy let the client wait while there was no server, for longer than a handshake may take if that was long.
        scene.client.forget("failed: ");
        let killed = Instant::now();
        proxy_now.kill();
        scene.tells(&row("24d proxy"), killed).await?;
        scene.tells(&row("24d next"), killed).await?;
        let _proxy = proxy(&scene.lab, "").await;
        scene.ends_well().await;
        Ok(())
    })
    .await;
}
