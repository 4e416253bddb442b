# Gradients of gated_linear.dsl, by tpcgen vjp.

dtype T in bf16, f32

op gated_linear_vjp(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], g: f32[B, H, N], dO: T[B, H, N, E])
    -> dQ: T[B, H, N, D], dK: T[B, H, N, D], dV: T[B, H, N, E], dg: f32[B, H, N]
    where 0 < g[b,h,t] and g[b,h,t] <= 1
{
    index t in 0 .. N
    index b in 0 .. B
    index h in 0 .. H
    index d in 0 .. D
    index e in 0 .. E
    scan t in 0 .. N {
        state S_again[b,h,d,e]: f32 = 0
        S_at_2[t,b,h,d,e]: f32 = S_again[b,h,d,e]
        S_again[b,h,d,e] := g[b,h,t] * S_again[b,h,d,e] + K[b,h,t,d] * V[b,h,t,e]
        S_at[t,b,h,d,e]: f32 = S_again[b,h,d,e]
    }
    scan t in 0 .. N reverse {
        state dS_t[b,h,d,e]: f32 = 0.0
        dS_t[b,h,d,e] := dS_t[b,h,d,e] + dO[b,h,t,e] * Q[b,h,t,d]
        dS_at[t,b,h,d,e]: f32 = dS_t[b,h,d,e]
        dS_t[b,h,d,e] := dS_t[b,h,d,e] * g[b,h,t]
    }
    dQ[b,h,t,d] = sum[e](dO[b,h,t,e] * T(S_at[t,b,h,d,e]))
    dK[b,h,t,d] = sum[e](T(dS_at[t,b,h,d,e]) * V[b,h,t,e])
    dV[b,h,t,e] = sum[d](T(dS_at[t,b,h,d,e]) * K[b,h,t,d])
    dg[b,h,t] = sum[d, e](dS_at[t,b,h,d,e] * S_at_2[t,b,h,d,e])
}

op gated_linear_resumed_vjp(
    Q: T[B, H, N, D],
    K: T[B, H, N, D],
    V: T[B, H, N, E],
    g: f32[B, H, N],
    S0: f32[B, H, D, E],
    dO: T[B, H, N, E],
    dS1: f32[B, H, D, E],
) -> dQ: T[B, H, N, D], dK: T[B, H, N, D], dV: T[B, H, N, E], dg: f32[B, H, N], dS0: f32[B, H, D, E]
    where 0 < g[b,h,t] and g[b,h,t] <= 1
{
    index t in 0 .. N
    index b in 0 .. B
    index h in 0 .. H
    index d in 0 .. D
    index e in 0 .. E
    dS[b,h,d,e]: f32 = dS1[b,h,d,e]
    scan t in 0 .. N {
        state S_again[b,h,d,e]: f32 = S0[b,h,d,e]
        S_at_2[t,b,h,d,e]: f32 = S_again[b,h,d,e]
        S_again[b,h,d,e] := g[b,h,t] * S_again[b,h,d,e] + K[b,h,t,d] * V[b,h,t,e]
        S_at[t,b,h,d,e]: f32 = S_again[b,h,d,e]
    }
    scan t in 0 .. N reverse {
        state dS_t[b,h,d,e]: f32 = dS[b,h,d,e]
        dS_t[b,h,d,e] := dS_t[b,h,d,e] + dO[b,h,t,e] * Q[b,h,t,d]
        dS_at[t,b,h,d,e]: f32 = dS_t[b,h,d,e]
        dS_t[b,h,d,e] := dS_t[b,h,d,e] * g[b,h,t]
    }
    dQ[b,h,t,d] = sum[e](dO[b,h,t,e] * T(S_at[t,b,h,d,e]))
    dK[b,h,t,d] = sum[e](T(dS_at[t,b,h,d,e]) * V[b,h,t,e])
    dV[b,h,t,e] = sum[d](T(dS_at[t,b,h,d,e]) * K[b,h,t,d])
    dg[b,h,t] = sum[d, e](dS_at[t,b,h,d,e] * S_at_2[t,b,h,d,e])
    dS0[b,h,d,e] = dS_t[b,h,d,e]
}

check odd { B = 1, H = 3, N = 65, D = 24, E = 40 }
