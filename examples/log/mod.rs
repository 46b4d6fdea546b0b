//! What the library does, on stderr, for whoever asks for it with `RUST_LOG`.

use tracing_subscriber::EnvFilter;

pub(crate) fn show_if_asked() {
    if std::env::var_os("RUST_LOG").is_some() {
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .init();
    }
}
