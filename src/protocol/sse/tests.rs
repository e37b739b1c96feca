use crate::limits::upstreams::EVENT_LIMIT;
use proptest::prelude::*;

use super::*;

fn read_all(pieces: &[&[u8]]) -> Vec<Frame> {
    let mut reader = Reader::new(EVENT_LIMIT);
    let mut frames = Vec::new();
    for piece in pieces {
        frames.extend(reader.push(piece).unwrap());
    }
    frames.extend(reader.finish());
    frames
}

fn data_of(frames: &[Frame]) -> Vec<&str> {
    frames
        .iter()
        .filter_map(|frame| frame.event.as_ref())
        .map(|event| event.data.as_str())
        .collect()
}

fn joined(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(|frame| frame.raw.to_vec()).collect()
}

#[test]
fn every_line_end_cuts_events_and_keeps_the_bytes() {
    for text in [
        "data: a\n\ndata:b\n\n",
        "data: a\r\n\r\ndata:b\r\n\r\n",
        "data: a\r\rdata:b\r\r",
        "data: a\n\r\ndata:b\r\n\n",
    ] {
        let frames = read_all(&[text.as_bytes()]);
        assert_eq!(data_of(&frames), ["a", "b"], "{text:?}");
        assert_eq!(joined(&frames), text.as_bytes(), "{text:?}");
    }
}

#[test]
fn a_bare_cr_stream_is_not_one_event_late() {
    let mut reader = Reader::new(100);
    assert_eq!(data_of(&reader.push(b"data: a\r\r").unwrap()), ["a"]);
    assert!(!reader.is_mid_event());
}

#[test]
fn names_comments_and_ids_are_told_apart() {
    let frames =
        read_all(&[b": hi\n\nid: 7\n\nevent: ping\ndata: {\ndata: }\n\nevent: none\n\ndata\n\n"]);
    let events: Vec<_> = frames.iter().map(|frame| frame.event.clone()).collect();
    assert_eq!(events.len(), 5);
    assert_eq!((&events[0], &events[1], &events[3]), (&None, &None, &None));
    assert_eq!(
        events[2],
        Some(Event {
            name: "ping".into(),
            data: "{\n}".into()
        })
    );
    assert_eq!(
        events[4],
        Some(Event {
            name: "message".into(),
            data: String::new()
        })
    );
}

#[test]
fn bad_bytes_boms_and_nul_neither_stall_nor_crash() {
    let frames = read_all(&[
        b"\xEF\xBB",
        b"\xBFdata: a\r\n\r\ndata: \xFF\xE2\x82\r\n\r\ndata: \0\n\ndata: c\n\n",
    ]);
    assert_eq!(data_of(&frames), ["a", "\u{fffd}\u{fffd}", "\0", "c"]);
    assert_eq!(frames[0].raw, "data: a\n\n");
    assert_eq!(frames[1].raw, "data: \u{fffd}\u{fffd}\n\n");
    let twice = read_all(&["\u{feff}\u{feff}data: a\n\ndata: b\n\n".as_bytes()]);
    assert_eq!(data_of(&twice), ["b"]);
    assert_eq!(
        data_of(&read_all(&["\u{feff}\ndata: a\n\n".as_bytes()])),
        ["a"]
    );
}

#[test]
fn a_split_character_is_not_repaired() {
    let text = "data: €\n\n".as_bytes();
    assert_eq!(
        data_of(&read_all(&[&text[..7], &text[7..8], &text[8..]])),
        ["€"]
    );
}

#[test]
fn an_unterminated_event_is_flushed() {
    for text in [
        "data: a\n\ndata: [DONE]",
        "data: a\n\ndata: [DONE]\n",
        "data: a\r\n\r\ndata: [DONE]\r\n\r",
    ] {
        let frames = read_all(&[text.as_bytes()]);
        assert_eq!(data_of(&frames), ["a", "[DONE]"], "{text:?}");
        assert_eq!(joined(&frames), text.as_bytes());
    }
    let mut reader = Reader::new(100);
    assert!(!reader.is_mid_event());
    reader.push(b"data: a").unwrap();
    assert!(reader.is_mid_event());
}

#[test]
fn a_long_event_is_refused_after_the_events_in_front_of_it() {
    let long = [b"data: a\n\ndata: ".as_slice(), &[b'x'; 200]].concat();
    let mut reader = Reader::new(100);
    assert_eq!(data_of(&reader.push(&long).unwrap()), ["a"]);
    assert!(reader.is_mid_event());
    assert_eq!(
        reader.push(b"\n\ndata: b\n\n"),
        Err(SseError::TooLong { limit: 100 })
    );
    assert_eq!(reader.push(b""), Err(SseError::TooLong { limit: 100 }));
    assert_eq!(reader.finish(), None);
    let mut whole = Reader::new(100);
    assert!(
        whole
            .push(&[b"data: ".as_slice(), &[b'x'; 200], b"\n\n"].concat())
            .is_err()
    );
}

#[test]
fn four_mebibytes_of_small_events_are_looked_at_once() {
    let text = b"data: 1234567\n\n".repeat(4 * 1024 * 1024 / 15);
    let mut reader = Reader::new(EVENT_LIMIT);
    let mut events = 0;
    for piece in text.chunks(16 * 1024) {
        events += reader.push(piece).unwrap().len();
    }
    assert_eq!(events, text.len() / 15);
    assert_eq!(reader.guard.looked_at, text.len());
    let mut one = Reader::new(EVENT_LIMIT);
    for byte in text.iter().take(4096).chain(&[b'x'; 4096]) {
        one.push(&[*byte]).unwrap();
    }
    assert_eq!(one.guard.looked_at, 8192);
}

#[test]
fn encoders_stay_one_frame() {
    assert_eq!(data("{}"), "data: {}\n\n");
    assert_eq!(data("{\n}"), "data: {\ndata: }\n\n");
    assert_eq!(comment("a\nb"), ": a b\n\n");
}

fn pieces_of(alphabet: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(alphabet), 0..60).prop_map(|parts| parts.concat())
}

const DIRTY: &[&[u8]] = &[
    b"\n",
    b"\r",
    b"\r\n",
    b"data: a",
    b"data:",
    b"event: x",
    b":",
    b"\0",
    b"\xEF\xBB\xBF",
    b"\xE2\x82",
    "€".as_bytes(),
    b" ",
    b"id: 1",
];
const CLEAN: &[&[u8]] = &[
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"data: a",
    b"data:",
    b":",
    b"\0",
    "€".as_bytes(),
    b" ",
];

proptest! {
    #[test]
    fn any_split_gives_the_same_frames(bytes in pieces_of(DIRTY), cuts in prop::collection::vec(0usize..200, 0..8)) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(read_all(&pieces), read_all(&[&bytes]));
    }

    #[test]
    fn a_clean_stream_is_reproduced(bytes in pieces_of(CLEAN)) {
        prop_assert_eq!(joined(&read_all(&[&bytes])), bytes);
    }
}
