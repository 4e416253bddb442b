# Gated linear attention of a sequence that several cards share, each a part of it: what docs/cards.md runs.
dtype T in bf16, f32

# The op on a part, from the state S0 before it.
op gated_linear_from(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], g: f32[B, H, N], S0: f32[B, H, D, E])
    -> O: T[B, H, N, E]
    where 0 < g[b,h,t] <= 1
{
    scan t in 0 .. N {
        state S[b,h,d,e]: f32 = S0[b,h,d,e]
        S[b,h,d,e] := g[b,h,t] * S[b,h,d,e] + K[b,h,t,d] * V[b,h,t,e]
        O[b,h,t,e] = sum[d](Q[b,h,t,d] * S[b,h,d,e])
    }
}

# What a part does to the state: from S to fade * S + gain.
op gated_linear_part(K: T[B, H, N, D], V: T[B, H, N, E], g: f32[B, H, N]) -> gain: f32[B, H, D, E], fade: f32[B, H]
    where 0 < g[b,h,t] <= 1
{
    scan t in 0 .. N reverse {
        state kept[b,h]: f32 = 1
        later[b,h,t] = kept[b,h]
        kept[b,h] := g[b,h,t] * kept[b,h]
    }
    aged[b,h,t,d] = later[b,h,t] * K[b,h,t,d]
    gain[b,h,d,e] = sum[t](aged[b,h,t,d] * V[b,h,t,e])
    fade[b,h] = kept[b,h]
}

# The state after a part, from the state before it.
op gated_linear_carry(S0: f32[B, H, D, E], gain: f32[B, H, D, E], fade: f32[B, H]) -> S: f32[B, H, D, E]
{
    S[b,h,d,e] = fade[b,h] * S0[b,h,d,e] + gain[b,h,d,e]
}

vjp gated_linear_from wrt Q, K, V, g, S0

vjp gated_linear_part wrt K, V, g

vjp gated_linear_carry wrt S0, gain, fade

check small { B = 2, H = 4, N = 48, D = 64, E = 64 }
check odd { B = 1, H = 3, N = 65, D = 24, E = 40 }
