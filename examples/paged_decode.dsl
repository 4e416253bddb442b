# Decode: one query per sequence, grouped-query heads, a paged key and value cache, a length per sequence, a soft cap.
# Pages at or beyond a sequence's length are stale and may hold anything: only visited points exist.
dtype T in bf16, f32

op paged_decode(
    Q: T[B, H, D],
    Kc: T[Nb, G, BS, D],
    Vc: T[Nb, G, BS, E],
    page: i32[B, Np], # page p of a sequence is block page[b,p] of the cache
    len: i32[B],
    cap: f32 = 30,
) -> O: T[B, H, E]
    where H % G == 0, len[b] <= Np * BS, p * BS >= len[b] or 0 <= page[b,p] < Nb
{
    let R = H // G
    index k in 0 .. Np * BS
    S[b,h,k] = cap * tanh(rsqrt(D) / cap * sum[d](Q[b,h,d] * Kc[page[b, k // BS], h // R, k % BS, d]))
    P[b,h,k] = softmax[k where k < len[b]](S[b,h,k])
    O[b,h,e] = sum[k](P[b,h,k] * Vc[page[b, k // BS], h // R, k % BS, e])
}

check small { B = 2, H = 4, G = 2, D = 64, E = 64, Nb = 9, BS = 16, Np = 4 }
