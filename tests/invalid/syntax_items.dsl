use window.dsl
dtype T = bf16
vjp f Q, K
check { B = 2 }
check small { B: 2 }
param x: f32
