//! What Istio decides, exactly, and whether two configurations decide the same.
