//! Traces whose collector is away.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::life::Server;
use super::{MODEL, binary};

#[test]
fn a_collector_that_never_answers_costs_no_request_and_one_line() {
    // It accepts connections and reads nothing.
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    for (listener, is_there) in [(hanging, true), (gone, false)] {
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let _listener = is_there.then_some(listener);
        let mut command = binary(&["serve", "--model", MODEL, "--dtype", "f32", "--port", "0"]);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        // Exports often.
        command.env("OTEL_BSP_SCHEDULE_DELAY", "10");
        let server = Server::until_ready(Server::run_by(&mut command));
        let begun = Instant::now();
        for _ in 0..20 {
            assert_eq!(server.get("/v1/models"), 200);
            std::thread::sleep(Duration::from_millis(15));
        }
        assert!(begun.elapsed() < Duration::from_secs(10));
        let log = server.stop();
        let told = log.matches("traces are lost").count();
        assert!(told == usize::from(!is_there) || told <= 1, "{log}");
        assert!(log.contains("stopped"), "{log}");
    }
}
