//! The connection of a taskmanager: a WebSocket, one JSON message each way at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Extension;
use axum::extract::State as Given;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message as Frame, WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use tidegate_protocol::TaskManagerId;
use tidegate_protocol::taskmanager::{FromTaskManager, ToTaskManager};
use tidegate_protocol::why::SaidByTaskManager;
use tidegate_rest::Failure;
use tokio::sync::mpsc;

use super::State;
use super::answer::Wrong;
use super::connections::Peer;
use crate::driver::Message;

/// The greatest length of a message: a part of a snapshot lists partitions, and may be long.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// Connects a taskmanager by a WebSocket, whose messages are not part of the public interface.
#[utoipa::path(
    get,
    path = "/taskmanagers/link",
    responses(
        (status = 101, description = "The WebSocket is open"),
        (status = 400, description = "The request is no upgrade to a WebSocket", body = Failure),
        (status = 403, description = "With TLS, the taskmanager has shown no certificate", body = Failure)
    )
)]
pub(super) async fn connect(
    Given(state): Given<Arc<State>>,
    Extension(peer): Extension<Peer>,
    upgrade: Upgrade,
) -> Result<Response, Wrong> {
    if state.has_tls && !peer.has_certificate {
        let text = "a taskmanager needs a certificate of the cluster: set its tls.certificate and tls.key";
        return Err(Wrong::new(StatusCode::FORBIDDEN, text));
    }
    let upgrade = upgrade.map_err(|refused| Wrong::new(StatusCode::BAD_REQUEST, refused.body_text()))?;
    let upgrade = upgrade.max_message_size(MESSAGE_BYTES_MAX).max_frame_size(MESSAGE_BYTES_MAX);
    // The connection counts as long as the WebSocket is open.
    Ok(upgrade.on_upgrade(move |socket| async move {
        serve(state, socket).await;
        drop(peer);
    }))
}

async fn serve(state: Arc<State>, socket: WebSocket) {
    let (mut send, mut receive) = socket.split();
    let silence = state.lease;
    let Some(SaidByTaskManager::Message(FromTaskManager::Register(registration))) =
        next(&mut receive, silence).await
    else {
        return;
    };
    let id = registration.id.clone();
    let lease_ms = state.lease.as_millis() as u64;
    if tell(&mut send, &ToTaskManager::Registered { lease_ms }).await.is_none() {
        return;
    }
    let number = state.connections.fetch_add(1, Ordering::Relaxed);
    let (sender, outbox) = mpsc::unbounded_channel();
    state.driver.send(Message::Connected(number, registration, sender));
    let every = state.lease / 6;
    tokio::select! {
        () = receive_all(&state, (number, &id), &mut receive, silence) => {}
        () = send_all(&mut send, outbox, every) => {}
    }
    state.driver.send(Message::Disconnected(number, id));
}

/// Passes messages on until the connection is over, or silent.
async fn receive_all(
    state: &State,
    (number, id): (u64, &TaskManagerId),
    receive: &mut SplitStream<WebSocket>,
    silence: Duration,
) {
    while let Some(said) = next(receive, silence).await {
        match said {
            SaidByTaskManager::Message(FromTaskManager::Pong) => {}
            SaidByTaskManager::Message(message) => {
                state.driver.send(Message::FromTaskManager(number, id.clone(), message));
            }
            SaidByTaskManager::Answer(answer) => {
                state.driver.send(Message::Answered(number, id.clone(), answer));
            }
        }
    }
}

/// The next message; None if the connection is over, silent for too long, or sends what cannot be read.
async fn next(receive: &mut SplitStream<WebSocket>, silence: Duration) -> Option<SaidByTaskManager> {
    loop {
        match tokio::time::timeout(silence, receive.next()).await.ok()??.ok()? {
            Frame::Text(text) => return SaidByTaskManager::from_json(&text).ok(),
            Frame::Ping(_) | Frame::Pong(_) => {}
            Frame::Binary(_) | Frame::Close(_) => return None,
        }
    }
}

/// Sends what the driver has for the taskmanager, and that the jobmanager lives. Ends when the connection is over, or another
/// one has taken its place.
async fn send_all(
    send: &mut SplitSink<WebSocket, Frame>,
    mut outbox: mpsc::UnboundedReceiver<ToTaskManager>,
    every: Duration,
) {
    loop {
        let message = match tokio::time::timeout(every, outbox.recv()).await {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(_) => ToTaskManager::Ping,
        };
        if tell(send, &message).await.is_none() {
            return;
        }
    }
}

async fn tell(send: &mut SplitSink<WebSocket, Frame>, message: &impl Serialize) -> Option<()> {
    let text = serde_json::to_string(message).ok()?;
    send.send(Frame::Text(text.into())).await.ok()
}
