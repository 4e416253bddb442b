op a(Q[B, H]: f32) -> z: f32[N] { z[i] = 3 }
op b(Q: [B, H]) -> z: f32[N] { z[i] = 3 }
op c(Q) -> z: f32[N] { z[i] = 3 }
op d(W = 3) -> z: f32[N] { z[i] = 3 }
op e(Q: f32[N]) { z[i] = 3 }
op f(Q: f32[N]) -> z { z[i] = 3 }
op g(Q: f32[N]) -> z: f32 { z[i] = 3 }
op h(Q: f32[N] K: f32[N]) -> z: f32[N] { z[i] = 3 }
op i(Q: f32[N]) -> z: f32[N] N > 3 { z[i] = 3 }
op (Q: f32[N]) -> z: f32[N] { z[i] = 3 }
fn f(x: f32) = x
fn g(x) { x }
param x = 3
