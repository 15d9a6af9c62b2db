//! `callgate-hostile`: one attempt to get past the gate, or the willing helper outside. Made by the bypass exam alone.

use std::process::ExitCode;

use anyhow::{Result, bail};
use callgate_bypass::{helper, hostile};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hostile: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["attempt", order] => hostile::attempt(order),
        ["serve"] => hostile::serve(),
        ["after", order] => callgate_bypass::vectors::after(order),
        ["help", way, folder] => helper::main(way, folder.as_ref()),
        ["dial-told"] => {
            let told = std::env::var(callgate_bypass::vectors::DIAL)?;
            let (to, nonce) = told.split_once(' ').unwrap_or_default();
            helper::dial(to.parse()?, nonce)
        }
        ["dial", to, nonce] => helper::dial(to.parse()?, nonce),
        _ => {
            bail!("usage: callgate-hostile attempt ORDER | after ORDER | serve | help WAY FOLDER | dial ADDRESS NONCE")
        }
    }
}
