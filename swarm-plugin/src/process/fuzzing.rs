//! What a program says, without a program.

use std::sync::Arc;

use rmcp::model::{CallToolRequestParams, ClientConfig};
use rmcp::serve_client;
use rmcp::transport::async_rw::AsyncRwTransport;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::frames::Frames;
use super::link::listed;
use super::wire::Wire;
use crate::manifest::Manifest;

/// Small, so that bytes from nowhere reach it.
const LIMIT: usize = 2048;

/// Greets, and says these bytes while its tools are asked for and one of them is called. Answers how many tools would be
/// plugins.
pub(crate) async fn said(bytes: &[u8]) -> usize {
    assert_frames(bytes).await;
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (input, output) = tokio::io::split(ours);
    let (heard, mut says) = tokio::io::split(theirs);
    let transport =
        AsyncRwTransport::new_client(Frames::new(input, LIMIT), output).with_max_line_length(LIMIT);
    let wire = Wire::new(transport, Arc::new(Notify::new()), CancellationToken::new());
    let mut heard = BufReader::new(heard).lines();
    let greet = async {
        let line = heard.next_line().await.ok().flatten().unwrap_or_default();
        let ask: Value = serde_json::from_str(&line).unwrap_or_default();
        let about = json!({
            "protocolVersion": ask["params"]["protocolVersion"],
            "capabilities": {"tools": {"listChanged": true}},
            "serverInfo": {"name": "nobody", "version": "1.0.0"},
        });
        let answer = json!({"jsonrpc": "2.0", "id": ask["id"], "result": about});
        let _ = says.write_all(format!("{answer}\n").as_bytes()).await;
    };
    let (service, ()) = tokio::join!(serve_client(ClientConfig::default(), wire), greet);
    let Ok(service) = service else { return 0 };
    let peer = service.peer();
    let listing = async {
        let tools = listed(peer).await.ok().unwrap_or_default();
        tools.iter().filter(|tool| super::manifest(Manifest::builder("fuzz", "1.0.0"), tool).is_ok()).count()
    };
    let calling = async {
        let outcome = peer.call_tool(CallToolRequestParams::new("tool")).await;
        outcome.is_ok_and(|result| super::answer(result).is_ok())
    };
    let saying = async {
        // They may answer what is asked, and so come after it.
        for _asked in 0..2 {
            let _ = heard.next_line().await;
        }
        let hears = async { while let Ok(Some(_)) = heard.next_line().await {} };
        let tells = async {
            for line in bytes.split_inclusive(|&byte| byte == b'\n') {
                let _ = says.write_all(line).await;
                // What one line leads to may be asked before the next.
                for _ in 0..16 {
                    tokio::task::yield_now().await;
                }
            }
            let _ = says.shutdown().await;
        };
        tokio::join!(hears, tells);
    };
    let talk = async {
        let (count, _) = tokio::join!(listing, calling);
        service.cancellation_token().cancel();
        count
    };
    tokio::join!(talk, saying).0
}

/// Nothing is lost, added or moved, but for the failures of lines that are too long.
async fn assert_frames(bytes: &[u8]) {
    let mut passed = Vec::new();
    let read = Frames::new(bytes, LIMIT).read_to_end(&mut passed).await;
    assert!(read.is_ok(), "bytes can be read");
    let is_failure =
        |line: &[u8]| line.ends_with(format!("the answer is over {LIMIT} bytes\"}}}}\n").as_bytes());
    let mut rest = bytes;
    for line in passed.split_inclusive(|&byte| byte == b'\n') {
        match rest.strip_prefix(line) {
            Some(after) => rest = after,
            None => assert!(is_failure(line), "{:?}", String::from_utf8_lossy(line)),
        }
    }
    assert!(rest.is_empty(), "{} bytes are lost", rest.len());
}
