//! Reading a stream.

use eventsource_stream::Eventsource;
use futures::{Stream, StreamExt};
use reqwest::Response;
use serde_json::Value;

/// The events of a streamed answer, as names and data.
pub fn events(response: Response) -> impl Stream<Item = (String, Value)> + Unpin {
    Box::pin(response.bytes_stream().eventsource().map(|event| {
        let event = event.unwrap();
        (event.event, serde_json::from_str(&event.data).unwrap())
    }))
}
