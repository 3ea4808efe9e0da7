//! A listener on this computer whose connections go through a tunnel. When the tunnel breaks, the next
//! connection opens another one with a new grant.

use std::net::SocketAddr;

use qb_link::mux::streams;
use qb_link::tunnel::TunnelAnswer;
use qb_link::{Mux, MuxEnd};
use qb_model::Name;
use qb_model::document::GrantTarget;
use qb_model::words::fingerprint;
use tokio::net::{TcpListener, TcpStream};

use super::tunnel;
use crate::ctx::Session;
use crate::error::CliError;

/// A listener with its tunnel.
pub struct Proxy {
    listener: TcpListener,
    cluster: Name,
    mux: Mux,
}

impl Proxy {
    /// Opens the tunnel, then the listener: on 127.0.0.1, at `port` or any that is free.
    ///
    /// # Errors
    /// The site lets nobody in, or the port is taken.
    pub async fn open(session: &mut Session<'_>, cluster: &Name, port: u16) -> Result<Self, CliError> {
        let mux = open(session, cluster).await?;
        let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(|e| {
            CliError::failed(format!("Cannot listen on 127.0.0.1:{port}: {e}."))
                .remedy("leave --port out: any free port will do")
        })?;
        Ok(Self { listener, cluster: cluster.clone(), mux })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> Result<SocketAddr, CliError> {
        self.listener.local_addr().map_err(|e| CliError::failed(format!("Which port is not known: {e}.")))
    }

    /// Serves connections until dropped. One that gets no tunnel is closed, and says why.
    pub async fn serve(&mut self, session: &mut Session<'_>) {
        loop {
            let Ok((io, _)) = self.listener.accept().await else { continue };
            if let Err(error) = self.connect(session, io).await {
                for line in error.lines() {
                    session.ctx.out.say(&line);
                }
            }
        }
    }

    async fn connect(&mut self, session: &mut Session<'_>, mut io: TcpStream) -> Result<(), CliError> {
        // Small requests, answered at once.
        let _ = io.set_nodelay(true);
        let mut stream = match self.mux.open().await {
            Ok(stream) => stream,
            Err(_) => {
                session.ctx.out.hint("The tunnel was closed; opening another one.");
                self.mux = match open(session, &self.cluster).await {
                    Ok(mux) => mux,
                    // The door may have gone, or the session at it: once more, at whatever answers.
                    Err(_) => {
                        session.reopen().await?;
                        open(session, &self.cluster).await?
                    }
                };
                let gone = |e| CliError::unreachable(format!("The tunnel was closed at once: {e}."));
                self.mux.open().await.map_err(gone)?
            }
        };
        tokio::spawn(async move {
            // Either end may break off: kubectl says what that means.
            let _ = tokio::io::copy_bidirectional(&mut io, &mut stream).await;
        });
        Ok(())
    }
}

async fn open(session: &mut Session<'_>, cluster: &Name) -> Result<Mux, CliError> {
    let opened = tunnel::open(session, cluster, GrantTarget::Apiserver, Vec::new()).await?;
    if opened.answer != TunnelAnswer::Open {
        return Err(CliError::failed("The node gave a certificate where it was asked for a tunnel."));
    }
    session.ctx.out.trace(&format!("a tunnel to {cluster}, by node {}", fingerprint(&opened.node.0)));
    let (mux, incoming, driver) = streams(opened.stream, MuxEnd::Agent);
    // The agent opens no streams.
    drop(incoming);
    tokio::spawn(async move {
        // Seen by whoever opens the next stream.
        let _ = driver.await;
    });
    Ok(mux)
}
