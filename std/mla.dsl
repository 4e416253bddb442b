# Multi-head latent attention (DeepSeek-V2): keys and values of all heads are up-projections Wk, Wv of one latent C per
# token, plus one rotated key Kr that the heads share; causal, M queries are the last M of N keys. `mla` projects the
# latents up, which suits prefill. `mla_absorbed` moves the projections to the queries and to the result, so that
# decoding reads the latents only. Both compute the same; Qr and Kr come rotated.
dtype T in bf16, f32

op mla(Q: T[B, H, M, D], Qr: T[B, H, M, F], C: T[B, N, L], Kr: T[B, N, F], Wk: T[H, D, L], Wv: T[H, E, L])
    -> O: T[B, H, M, E]
    where M <= N
{
    K[b,h,k,d]: T = sum[l](C[b,k,l] * Wk[h,d,l])
    V[b,h,k,e]: T = sum[l](C[b,k,l] * Wv[h,e,l])
    S[b,h,q,k] = rsqrt(D + F) * (sum[d](Q[b,h,q,d] * K[b,h,k,d]) + sum[f](Qr[b,h,q,f] * Kr[b,k,f]))
    P[b,h,q,k] = softmax[k where k <= q + N - M](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

op mla_absorbed(Q: T[B, H, M, D], Qr: T[B, H, M, F], C: T[B, N, L], Kr: T[B, N, F], Wk: T[H, D, L], Wv: T[H, E, L])
    -> O: T[B, H, M, E]
    where M <= N
{
    Qc[b,h,q,l]: T = sum[d](Q[b,h,q,d] * Wk[h,d,l])
    S[b,h,q,k] = rsqrt(D + F) * (sum[l](Qc[b,h,q,l] * C[b,k,l]) + sum[f](Qr[b,h,q,f] * Kr[b,k,f]))
    P[b,h,q,k] = softmax[k where k <= q + N - M](S[b,h,q,k])
    Oc[b,h,q,l]: T = sum[k](P[b,h,q,k] * C[b,k,l])
    O[b,h,q,e] = sum[l](Oc[b,h,q,l] * Wv[h,e,l])
}

check odd { B = 1, H = 3, M = 17, N = 33, D = 24, E = 24, F = 8, L = 40 }
