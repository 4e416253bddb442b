# Decoding: one query per sequence, grouped-query heads, len[b] keys of the cache in use; the rest is stale and may hold
# anything. In `decode` the cache of a sequence is contiguous. In `paged_decode` (vLLM, Kwon et al. 2023) it consists of
# pages of BS keys: page p of sequence b is block page[b,p] of the cache, and unused entries of the table are stale too.
dtype T in bf16, f32

op decode(Q: T[B, H, D], K: T[B, G, N, D], V: T[B, G, N, E], len: i32[B]) -> O: T[B, H, E]
    where G >= 1, H % G == 0, 0 <= len[b] <= N
{
    let R = H // G
    S[b,h,k] = rsqrt(D) * sum[d](Q[b,h,d] * K[b, h // R, k, d])
    P[b,h,k] = softmax[k where k < len[b]](S[b,h,k])
    O[b,h,e] = sum[k](P[b,h,k] * V[b, h // R, k, e])
}

op paged_decode(Q: T[B, H, D], Kc: T[Nb, G, BS, D], Vc: T[Nb, G, BS, E], page: i32[B, Np], len: i32[B]) -> O: T[B, H, E]
    where G >= 1, H % G == 0, 0 <= len[b] <= Np * BS, p * BS >= len[b] or 0 <= page[b,p] < Nb
{
    let R = H // G
    index k in 0 .. Np * BS
    S[b,h,k] = rsqrt(D) * sum[d](Q[b,h,d] * Kc[page[b, k // BS], h // R, k % BS, d])
    P[b,h,k] = softmax[k where k < len[b]](S[b,h,k])
    O[b,h,e] = sum[k](P[b,h,k] * Vc[page[b, k // BS], h // R, k % BS, e])
}

check odd { B = 3, H = 6, G = 2, N = 33, D = 40, E = 24, Nb = 9, BS = 7, Np = 4 }
