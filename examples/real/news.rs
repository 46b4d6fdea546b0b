//! What happens to the connections, as it happens.

use steadfast::{Event, Subscription};

pub(crate) async fn tell(mut events: Subscription<Event>) {
    while let Some(event) = events.next().await {
        match event {
            Event::Ready { .. } | Event::Lost { .. } => println!("{event}"),
            _ => {}
        }
    }
}
