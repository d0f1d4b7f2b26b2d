//! Prints released events on standard output, in the format asked for.

use std::io::Write;

use redostream_engine::catalog::registry::RelationRegistry;
use redostream_engine::error::EngineError;
use redostream_engine::feed::block::Block;
use redostream_engine::pipeline::Sink;
use redostream_protocol::cursor::Cursor;
use redostream_protocol::event::Event;
use redostream_protocol::render::{SessionSettings, TestDecoding, TestDecodingOptions};

use crate::cli::Format;

/// Bytes of output that are gathered before they are written.
const OUTPUT_BYTES: usize = 256 * 1024;

/// How events are rendered.
enum Renderer {
    TestDecoding(Box<TestDecoding>),
    None,
}

/// A sink that prints.
pub(crate) struct Printer<W: Write> {
    renderer: Renderer,
    relations: RelationRegistry,
    buffer: Vec<u8>,
    out: W,
}

impl<W: Write> Printer<W> {
    pub(crate) fn new(
        format: Format,
        major: u16,
        settings: SessionSettings,
        relations: RelationRegistry,
        out: W,
    ) -> Self {
        let renderer = match format {
            Format::TestDecoding => {
                let options = TestDecodingOptions {
                    major,
                    settings,
                    utf8: false,
                };
                Renderer::TestDecoding(Box::new(TestDecoding::new(options)))
            }
            Format::Json | Format::None => Renderer::None,
        };
        Printer {
            renderer,
            relations,
            buffer: Vec::new(),
            out,
        }
    }

    fn print(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        let Renderer::TestDecoding(renderer) = &mut self.renderer else {
            return Ok(());
        };
        let relations = &self.relations;
        let lookup = |version| relations.relation(version);
        let mut cursor = Cursor::new(bytes);
        while cursor.remaining() > 0 {
            let event = Event::read(&mut cursor).map_err(output)?;
            renderer
                .event(&event, &lookup, &mut self.buffer)
                .map_err(output)?;
            if self.buffer.len() >= OUTPUT_BYTES {
                self.out.write_all(&self.buffer).map_err(output)?;
                self.buffer.clear();
            }
        }
        Ok(())
    }

    /// Writes what is left.
    pub(crate) fn finish(&mut self) -> Result<(), EngineError> {
        self.out.write_all(&self.buffer).map_err(output)?;
        self.buffer.clear();
        self.out.flush().map_err(output)
    }
}

fn output(error: impl ToString) -> EngineError {
    EngineError::Output(error.to_string())
}

impl<W: Write + Send> Sink for Printer<W> {
    fn block(&mut self, block: Block) -> Result<(), EngineError> {
        if let [piece] = &block.pieces[..] {
            return self.print(piece);
        }
        // An event that spans pieces is alone in its block.
        let spans = block.events == 1;
        if spans {
            let whole = block.pieces.concat();
            return self.print(&whole);
        }
        for piece in &block.pieces {
            self.print(piece)?;
        }
        Ok(())
    }
}
