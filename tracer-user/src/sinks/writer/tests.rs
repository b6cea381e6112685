use std::io::Read;
use std::os::fd::OwnedFd;

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

fn pipe() -> (File, File) {
    let (read, write): (OwnedFd, OwnedFd) = nix::unistd::pipe().unwrap();
    (read.into(), write.into())
}

#[test]
fn everything_is_written_in_order() {
    let (mut read, write) = pipe();
    let writer = Writer::start(write).unwrap();
    for number in 0..1000 {
        writer.push(format!("{number}\n").as_bytes());
    }
    assert_eq!(writer.finish(PATIENCE), (Written::Done, 0));
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    let wanted: String = (0..1000).map(|number| format!("{number}\n")).collect();
    assert_eq!(text, wanted);
}

#[test]
fn a_reader_that_does_not_read_holds_nobody_up() {
    let (_read, write) = pipe();
    let writer = Writer::start(write).unwrap();
    let begun = Instant::now();
    let event = vec![b'x'; 1000];
    let mut pushed = 0;
    while writer.has_room() {
        writer.push(&event);
        pushed += 1;
    }
    let (_, unwritten) = writer.finish(Duration::from_millis(200));
    assert!(begun.elapsed() < PATIENCE);
    // The pipe itself holds 64 KiB.
    assert!((pushed - 66..=pushed).contains(&unwritten));
}

#[test]
fn a_closed_pipe_is_told_even_where_nothing_is_written() {
    let (read, write) = pipe();
    let writer = Writer::start(write).unwrap();
    drop(read);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime
        .block_on(async { tokio::time::timeout(PATIENCE, writer.reader_gone()).await })
        .unwrap();
    assert_eq!(writer.written(), Written::PipeClosed);
}

#[test]
fn a_closed_pipe_is_told_by_the_write_that_met_it() {
    let (read, write) = pipe();
    drop(read);
    let writer = Writer::start(write).unwrap();
    writer.push(b"x\n");
    assert_eq!(writer.finish(PATIENCE), (Written::PipeClosed, 1));
}

#[test]
fn a_full_disk_is_reported_and_does_not_hang_the_end() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let writer = Writer::start(full).unwrap();
    writer.push(b"x\n");
    let (written, unwritten) = writer.finish(PATIENCE);
    assert!(matches!(written, Written::Failed(reason) if reason.contains("No space")));
    assert_eq!(unwritten, 1);
}
