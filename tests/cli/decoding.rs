//! What pictures cost the process that decodes them.

use std::io::{Cursor, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use image::{ImageBuffer, ImageFormat, Rgba};
use serde_json::json;

use super::life::Server;

const MB: usize = 1_000_000;
/// What else a process may take meanwhile: the requests' bodies, threads, and what the allocator keeps of freed memory.
const SLACK: usize = 150 * MB;

/// A PNG in the widest samples, of a few kilobytes.
fn wide_png(side: u32) -> Vec<u8> {
    let image = ImageBuffer::<Rgba<u16>, _>::from_pixel(side, side, Rgba([9, 9, 9, u16::MAX]));
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// The same file with a chunk behind its header: `start`, which is its type and what stands before the
/// compressed part, and so many zeros, compressed.
fn with_chunk(png: &[u8], start: &[u8], zeros: usize) -> Vec<u8> {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::best());
    let part = vec![0; MB];
    for _ in 0..zeros / MB {
        packed.write_all(&part).unwrap();
    }
    let data = [start, &packed.finish().unwrap()].concat();
    let mut checksum = flate2::Crc::new();
    checksum.update(&data);
    // Signature, and the header with its length, type and checksum.
    let (header, rest) = png.split_at(8 + 12 + 13);
    let length = (data.len() as u32 - 4).to_be_bytes();
    let end = checksum.sum().to_be_bytes();
    [header, &length, &data, &end, rest].concat()
}

impl Server {
    /// Bytes of the process's memory, by its line in /proc.
    fn memory(&self, line: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let mut lines = status.lines();
        let value = lines.find_map(|it| it.strip_prefix(line)).unwrap();
        value
            .trim_end_matches("kB")
            .trim()
            .parse::<usize>()
            .unwrap()
            * 1024
    }

    /// Asks about `image` so many times in one request, in so many requests at once, and tells by how
    /// much the process's memory grew at its peak. `status` is that of every answer.
    fn growth(&self, image: &[u8], times: usize, requests: usize, status: u16) -> usize {
        let before = self.memory("VmRSS:");
        let images = vec![STANDARD.encode(image); times];
        let body = json!({"images": images, "max_tokens": 1}).to_string();
        std::thread::scope(|scope| {
            for _ in 0..requests {
                scope.spawn(|| assert_eq!(self.post("/v1/caption", &body), status));
            }
        });
        self.memory("VmHWM:").saturating_sub(before)
    }
}

#[test]
fn metadata_that_would_inflate_to_half_a_gigabyte_costs_nothing() {
    let server = Server::ready(&[]);
    let starts: [&[u8]; 3] = [b"iCCPprofile\0\0", b"zTXttext\0\0", b"iTXttext\0\x01\0\0\0"];
    for start in starts {
        let bomb = with_chunk(&wide_png(64), start, 500 * MB);
        assert!(bomb.len() < MB, "{} bytes", bomb.len());
        let growth = server.growth(&bomb, 4, 2, 200);
        let kind = start[..4].escape_ascii();
        assert!(growth < SLACK, "{kind}: {} MB", growth / MB);
    }
}

#[test]
fn decodes_share_the_memory_that_is_set_aside_for_them() {
    // Each takes 41 MB.
    let large = wide_png(2000);
    let server = Server::ready(&["--decode-memory", "60MB", "--decode-threads", "8"]);
    let growth = server.growth(&large, 4, 4, 200);
    assert!(growth < 60 * MB + SLACK, "{} MB", growth / MB);
    let server = Server::ready(&["--decode-memory", "30MB"]);
    let growth = server.growth(&large, 1, 1, 413);
    assert!(growth < SLACK, "{} MB", growth / MB);
}
