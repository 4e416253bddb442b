# Linear attention with a decay gate per head and token (Peng et al. 2021, xLSTM's matrix memory without its
# normaliser): an outer-product state that forgets by g[b,h,t] before token t is added.
dtype T in bf16, f32

op gated_linear(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], g: f32[B, H, N]) -> O: T[B, H, N, E]
    where 0 < g[b,h,t] <= 1
{
    scan t in 0 .. N {
        state S[b,h,d,e]: f32 = 0
        S[b,h,d,e] := g[b,h,t] * S[b,h,d,e] + K[b,h,t,d] * V[b,h,t,e]
        O[b,h,t,e] = sum[d](Q[b,h,t,d] * S[b,h,d,e])
    }
}

# The same from a state, which it leaves for what follows: a prompt in parts, or a prompt and then decoding.
op gated_linear_resumed(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], g: f32[B, H, N], S0: f32[B, H, D, E])
    -> O: T[B, H, N, E], S1: f32[B, H, D, E]
    where 0 < g[b,h,t] <= 1
{
    scan t in 0 .. N {
        state S[b,h,d,e]: f32 = S0[b,h,d,e]
        S[b,h,d,e] := g[b,h,t] * S[b,h,d,e] + K[b,h,t,d] * V[b,h,t,e]
        O[b,h,t,e] = sum[d](Q[b,h,t,d] * S[b,h,d,e])
    }
    S1[b,h,d,e] = S[b,h,d,e]
}

check odd { B = 1, H = 3, N = 65, D = 24, E = 40 }
