//! Before a transfer: the two sides greet each other, and the receiver says under which terms a program may come.

use super::THERE;
use crate::link::{Link, LinkError};
use crate::records::{Place, Shelf, Side};
use crate::wire::{About, Frame, Terms, VERSION};
use dunlin_handover::{Encoded, Id, ToSender};
use std::{fs, io};

/// Greets the other side; returns its store of records, too.
pub(super) fn greet(link: Link, store: Id) -> Result<(Link, Id), LinkError> {
    link.greet(store)?;
    match link.receive()? {
        Frame::Hello {
            version: VERSION,
            store,
        } => Ok((link, Id(store))),
        Frame::Hello { version, .. } => Err(LinkError::Version(version)),
        _ => Err(LinkError::Unexpected),
    }
}

/// As [`greet`], a machine that was met before. Another one knows nothing of the transfer, and that would say nothing.
pub(super) fn greet_again(link: Link, store: Id, place: &Place) -> Result<Link, LinkError> {
    let (link, there) = greet(link, store)?;
    match fs::read(place.file(THERE))? == there.0 {
        true => Ok(link),
        false => Err(io::Error::other("this is not the machine that the program was sent to").into()),
    }
}

pub(super) fn ask(link: &Link, shelf: &Shelf, about: &About) -> Result<Result<Terms, String>, LinkError> {
    link.send(&Frame::About(about.clone()))?;
    loop {
        match link.receive()? {
            Frame::Terms(terms) => return Ok(Ok(terms)),
            Frame::Error(why) => return Ok(Err(why)),
            Frame::Handover(bytes) => {
                let message = ToSender::decode(&bytes).map_err(|_| LinkError::Unexpected)?;
                answer(link, shelf, message)?;
            }
            _ => return Err(LinkError::Unexpected),
        }
    }
}

/// The other side asks about an earlier transfer: if there is no record of it here, it is told so. Of one that isn't
/// over here, whoever works at it will hear.
pub(super) fn answer(link: &Link, shelf: &Shelf, message: ToSender) -> Result<(), LinkError> {
    let known = shelf.has(Side::Out, message.transfer().attempt)?;
    match message.answer_without_record(shelf.store()) {
        Some(reply) if !known => link.send(&Frame::Handover(reply.encode())),
        _ => Ok(()),
    }
}
