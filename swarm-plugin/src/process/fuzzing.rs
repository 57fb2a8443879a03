//! What a program says, without a program.

use std::sync::Arc;

use rmcp::model::{ClientConfig, JsonObject};
use rmcp::serve_client;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::calls::Calls;
use super::frames::{Frame, Frames};
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
    let calls = Calls::new(output, Arc::new(Notify::new()));
    let wire = Wire::new(Frames::new(input, LIMIT), calls.clone(), CancellationToken::new());
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
        let outcome = calls.ask("tool", &JsonObject::new(), None).answer().await;
        outcome.is_ok_and(|result| super::answer(result).is_ok())
    };
    let saying = async {
        // They may answer what is asked, and so come after it.
        for _heard in ["initialized", "list", "call"] {
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

/// No line is lost, added or moved, and none that is too long is told.
async fn assert_frames(bytes: &[u8]) {
    let mut frames = Frames::new(bytes, LIMIT);
    for line in bytes.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        match frames.next().await {
            Some(Frame::Message(told)) => {
                assert!(told == line && line.len() <= LIMIT, "{line:?} is {told:?}")
            }
            Some(Frame::TooLong(_)) => assert!(line.len() > LIMIT, "{line:?} is not too long"),
            None => panic!("{line:?} is lost"),
        }
    }
    assert_eq!(frames.next().await, None, "a line was added");
}
