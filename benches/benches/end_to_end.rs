//! Bootstrap and decode of a recorded log, by number of decoders.

use std::hint::black_box;
use std::sync::atomic::Ordering;

use criterion::{Criterion, Throughput};
use redostream_benches::Recording;

fn end_to_end(criterion: &mut Criterion) {
    let recording = Recording::unpack("demo").expect("the demo case is recorded");
    let counters = recording.decode(1).expect("the demo case decodes");
    let mut group = criterion.benchmark_group("end_to_end");
    group.throughput(Throughput::Bytes(
        counters.wal_bytes.load(Ordering::Relaxed),
    ));
    group.sample_size(20);
    for decoders in [1, 2] {
        group.bench_function(format!("demo, {decoders} decoders"), |bencher| {
            bencher.iter(|| black_box(recording.decode(decoders).expect("it decoded before")));
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    end_to_end(&mut criterion);
    criterion.final_summary();
}
