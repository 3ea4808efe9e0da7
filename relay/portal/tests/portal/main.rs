//! The API through its public face: a small site in memory, requests, answers.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod ask;
mod doors;
mod events;
mod install;
mod login;
mod openapi;
mod pages;
mod reads;
mod room;
mod serve;
mod stub;
mod writes;
