use steadfast::{Event, Subscription};

/// `events` is that of the builder, asked before `build`. Each is a line for people, and has fields for programs.
pub async fn tell(mut events: Subscription<Event>) {
    while let Some(event) = events.next().await {
        eprintln!("{event}");
    }
}
