//! qb-portal: the API of a site over HTTP, as every agent serves it.
//!
//! ```text
//!  unix socket --.                        guard.rs                     site.rs
//!                +-- serve.rs --> deadline, headers > host > --> handler --> trait Site
//!  TLS ----------'   (bounds)      origin > session             (3-6 lines)   (the agent's)
//!                                         ^                        |
//!                      login.rs > session.rs                  view/, error.rs
//! ```
//!
//! A caller reads views and sends signed intents. The two doors differ in who may read: at the
//! local socket whoever may open it, on a network whoever logged in with an admin's key.
//!
//! | file | holds |
//! |---|---|
//! | [`router`] | every route; [`router::api`] puts a door together |
//! | [`site`] | [`site::Site`]: what the API asks of whoever holds the state |
//! | [`view`] | the JSON contract |
//! | [`door`] | [`door::DoorConfig`], and what an open door keeps |
//! | [`error`] | constructors of [`view::Problem`], stable codes |
//! | [`limits`] | every bound, with its reason |
//! | [`openapi`] | the API document, made from the handlers |
//! | [`paths`] | the same paths for clients |
//! | [`mod@serve`] | listeners, connections, deadlines |
//! | `guard`, `session`, `login` | what a request passes; nonces and sessions; logging in |
//! | `pages` | the web UI's files inside the program, and their routes |
//! | `extract` | parts of a request, checked |
//! | `reads`, `writes`, `events` | handlers |
//! | `mirror`, `suggest`, `stall` | schemas of the model's types; the nearest name; slow readers |
//! | [`install`] | the line that puts a site's package on a machine |
//! | [`room`] | room for connections, in all and of one address |
//!
//! # Invariants
//! - Never here: mesh, consensus, drivers, files, processes. Everything known of a site comes through
//!   [`site::Site`], and nothing here decides about it.
//! - Nothing here changes a site: what changes it is signed, and verified where it is applied. A
//!   session lets somebody read, and send what they signed.
//! - Bytes that were signed are passed on as they came.
//! - A handler that shows a site cannot run unless the guard said who asks.
//! - Every error is `application/problem+json`, and says what to do.
//! - Every queue, table, body and wait has its bound in [`limits`].
//! - No cookie, and no CORS header: other origins get nothing.

pub mod door;
pub mod error;
mod events;
mod extract;
mod guard;
pub mod install;
pub mod limits;
mod login;
mod mirror;
pub mod openapi;
mod pages;
pub mod paths;
mod reads;
pub mod room;
pub mod router;
pub mod serve;
mod session;
pub mod site;
mod stall;
mod suggest;
pub mod tunnel;
pub mod view;
mod writes;

pub use door::{Access, DoorConfig};
pub use pages::{assets, has_pages, pages, stored_bytes};
pub use router::{api, api_with_pages, guarded};
pub use serve::{Listener, Peer, serve, serve_tls};
pub use site::{Answer, IntentKey, LoginExpected, LoginOk, Site, SiteNames, Upload};
