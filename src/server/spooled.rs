//! The daemon takes in by itself what our hooks left in the spool of its port, in the order in which they left it.
//!
//! It looks at the start and every few seconds, which is one look at a folder. Hooks put their events behind those that wait,
//! so the order of each session holds while it works.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::accept::Phase;
use super::routes::App;
use crate::events::intake::{Input, Keyed};
use crate::events::key::Key;
use crate::events::store::Stored;
use crate::hooks::spool::{Delivery, Record, Spool, State};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(5);
/// How long it waits for hooks that append.
const LOCK: Duration = Duration::from_secs(1);
/// How many records are taken in at once, and how many bytes of them.
const BATCH: (usize, usize) = (200, 1 << 20);

/// Takes in what waits until the server shuts down.
pub async fn run(app: Arc<App>) {
    let settings = app.context.settings.borrow().state_dir.clone();
    let spool = Spool::new(settings.join("spool").join(app.context.instance.port.to_string()));
    let mut phase = app.phase.clone();
    loop {
        // As cheap as a look can be; the journal beside it is written from this thread, too.
        if spool.waits() {
            match take_in(&app, &spool).await {
                Ok(0) => {}
                Ok(events) => tracing::info!(events, "took in events that hooks could not deliver"),
                Err(error) => {
                    tracing::warn!(%error, dir = %spool.dir().display(), "cannot take in what hooks left; trying again")
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => return,
        }
    }
}

/// Takes in all that waits; how many events that were.
async fn take_in(app: &Arc<App>, spool: &Spool) -> std::io::Result<u64> {
    let begun = spool.clone();
    let Some(mut delivery) = blocking(move || begun.deliver(Instant::now() + LOCK)).await? else {
        // A hook is at it.
        return Ok(0);
    };
    let mut all = 0;
    loop {
        let (back, records) = blocking(move || {
            let records = batch(&mut delivery)?;
            Ok((delivery, records))
        })
        .await?;
        delivery = back;
        if records.is_empty() {
            return Ok(all);
        }
        let mut done = Vec::new();
        for record in records {
            match one(app, &record).await {
                Ok(is_new) => {
                    all += u64::from(is_new);
                    done.push(record);
                }
                Err(error) => {
                    blocking(move || mark(delivery, &done, State::Done).map(drop)).await?;
                    return Err(error);
                }
            }
        }
        delivery = blocking(move || mark(delivery, &done, State::Done)).await?;
    }
}

/// The next records, noted as being sent.
fn batch(delivery: &mut Delivery) -> std::io::Result<Vec<Record>> {
    delivery.until(Instant::now() + LOCK);
    let (mut records, mut bytes) = (Vec::new(), 0);
    while records.len() < BATCH.0 && bytes < BATCH.1 {
        // At the end of a file the marks must be there before it goes.
        let Some(record) = (if records.is_empty() { delivery.next_record()? } else { delivery.next_record_here()? })
        else {
            break;
        };
        bytes += record.body.len();
        records.push(record);
    }
    for record in &records {
        delivery.mark(record, State::Maybe)?;
    }
    Ok(records)
}

fn mark(delivery: Delivery, records: &[Record], state: State) -> std::io::Result<Delivery> {
    records.iter().try_for_each(|record| delivery.mark(record, state))?;
    Ok(delivery)
}

/// Takes in one record: whether it became a new event. What is no event never will be, and is passed over.
async fn one(app: &App, record: &Record) -> std::io::Result<bool> {
    let dialect = app.context.settings.borrow().dialect;
    let keyed = Key::parse(&record.key).map(|key| Keyed { key, again: record.state == State::Maybe });
    match app.context.intake.take(Input::Post(record.body.as_bytes(), dialect), keyed).await {
        Ok(stored) => Ok(matches!(stored, Stored::Now(_))),
        Err(error) if error.is_final() => {
            tracing::warn!(%error, "passed over what a hook left");
            Ok(false)
        }
        Err(error) => Err(std::io::Error::other(error)),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}
