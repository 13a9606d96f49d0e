//! Where documents come from: files, standard input, the demo; later a live cluster and bundles.
