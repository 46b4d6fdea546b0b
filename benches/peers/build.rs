//! tonic's client and server of one method, for a message that is written by hand: no `protoc` is needed.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    let echo = Method::builder()
        .name("echo")
        .route_name("Echo")
        .input_type("super::Message")
        .output_type("super::Message")
        .codec_path("tonic_prost::ProstCodec")
        .build();
    let service = Service::builder().name("Echo").package("peers").method(echo).build();
    Builder::new().compile(&[service]);
}
