use std::time::Duration;
use steadfast::*;
#[tokio::test(flavor = "multi_thread")]
async fn smoke() {
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let addr = server.local_addr().unwrap();
    let h = server.handle();
    let t = tokio::spawn(server.serve(|call: Call| async move { Ok(call.into_body()) }));
    let pool = Pool::builder(addr.to_string()).build().unwrap();
    pool.ready(Duration::from_secs(1)).await.unwrap();
    assert_eq!(pool.call("hello").await.unwrap(), "hello");
    let big = vec![7u8; 10 << 20];
    assert_eq!(pool.call(big.clone()).await.unwrap(), big);
    pool.notify("x").await.unwrap();
    let start = std::time::Instant::now();
    let n = 1000;
    let per = 200;
    let mut js = tokio::task::JoinSet::new();
    for i in 0..n {
        let pool = pool.clone();
        js.spawn(async move {
            for k in 0..per {
                let b = format!("{i} {k}");
                assert_eq!(pool.call(b.clone()).await.unwrap(), b);
            }
        });
    }
    while let Some(r) = js.join_next().await {
        r.unwrap();
    }
    eprintln!(
        "{} calls/s",
        (n * per) as f64 / start.elapsed().as_secs_f64()
    );
    eprintln!("{:?}", pool.status());
    pool.close(Duration::from_secs(1)).await.unwrap();
    h.shutdown(Duration::from_secs(1));
    t.await.unwrap().unwrap();
}
