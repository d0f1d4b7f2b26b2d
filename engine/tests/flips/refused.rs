//! Who is given the events may refuse some: nothing follows them, and that is the pipeline's end.

use redostream_engine::error::EngineError;
use redostream_engine::feed::block::Block;
use redostream_engine::pipeline::{Counters, Sink};

use super::Laid;

/// Takes so many blocks and refuses what comes then.
struct Refusing {
    takes: usize,
    refused: usize,
    events: Vec<u8>,
}

impl Sink for Refusing {
    fn block(&mut self, block: Block) -> Result<(), EngineError> {
        if self.takes == 0 {
            self.refused += 1;
            return Err(EngineError::Output("no more".to_owned()));
        }
        self.takes -= 1;
        for piece in &block.pieces {
            self.events.extend_from_slice(piece);
        }
        Ok(())
    }
}

/// With several decoders another one may have the next part at hand just then.
#[test]
fn nothing_follows_what_is_refused() {
    let mut laid = Laid::new(15, "bulk");
    laid.decoders = 4;
    for takes in (0..3).cycle().take(60) {
        let mut sink = Refusing {
            takes,
            refused: 0,
            events: Vec::new(),
        };
        let result = laid.run(&mut sink, true, &Counters::default());
        assert!(laid.truth.starts_with(&sink.events));
        assert_eq!(sink.refused, usize::from(result.is_err()), "{result:?}");
        assert!(result.is_err() || sink.takes > 0 || sink.events == laid.truth);
    }
}
