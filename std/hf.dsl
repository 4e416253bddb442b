# What the attention layers of Hugging Face's transformers ask for, one op for each combination; `register_attention`
# picks the op by its parameters (docs/transformers.md). M queries see N keys, those of the cache included: they are the
# last M of them, or where `start` is given, query q stands at key start[b] + q. Keys first[b] .. length[b] are no
# padding. `scale` multiplies the scores, `cap` bends them (Gemma 2), `snk` is a sink's logit per head (gpt-oss), W the
# window: a query sees itself and the W - 1 keys before it. Start and length are tensors: a decoding step recompiles
# nothing.
dtype T in bf16, f16, f32

op hf_causal(Q: T[B, H, M, D], K: T[B, G, N, D], V: T[B, G, N, E], scale: f32 = 1) -> O: T[B, H, M, E]
    where M <= N, G >= 1, H % G == 0
{
    let R = H // G
    S[b,h,q,k] = scale * sum[d](Q[b,h,q,d] * K[b, h // R, k, d])
    P[b,h,q,k] = softmax[k where k <= q + N - M](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b, h // R, k, e])
}

op hf_window(Q: T[B, H, M, D], K: T[B, G, N, D], V: T[B, G, N, E], scale: f32 = 1, W: int = 256) -> O: T[B, H, M, E]
    where M <= N, W >= 1, G >= 1, H % G == 0
{
    let R = H // G
    S[b,h,q,k] = scale * sum[d](Q[b,h,q,d] * K[b, h // R, k, d])
    P[b,h,q,k] = softmax[k where q + N - M - W < k <= q + N - M](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b, h // R, k, e])
}

op hf_causal_cap(Q: T[B, H, M, D], K: T[B, G, N, D], V: T[B, G, N, E], scale: f32 = 1, cap: f32 = 50)
    -> O: T[B, H, M, E]
    where M <= N, cap > 0, G >= 1, H % G == 0
{
    let R = H // G
    S[b,h,q,k] = cap * tanh(scale / cap * sum[d](Q[b,h,q,d] * K[b, h // R, k, d]))
    P[b,h,q,k] = softmax[k where k <= q + N - M](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b, h // R, k, e])
}

op hf_window_cap(Q: T[B, H, M, D], K: T[B, G, N, D], V: T[B, G, N, E], scale: f32 = 1, cap: f32 = 50, W: int = 256)
    -> O: T[B, H, M, E]
    where M <= N, W >= 1, cap > 0, G >= 1, H % G == 0
{
    let R = H // G
    S[b,h,q,k] = cap * tanh(scale / cap * sum[d](Q[b,h,q,d] * K[b, h // R, k, d]))
    P[b,h,q,k] = softmax[k where q + N - M - W < k <= q + N - M](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b, h // R, k, e])
}

op hf_causal_sink(Q: T[B, H, M, D], K: T[B, G, N, D], V: T[B, G, N, E], snk: f32[H], scale: f32 = 1) -> O: T[B, H, M, E]
    where M <= N, G >= 1, H % G == 0
{
    let R = H // G
    S[b,h,q,k] = scale * sum[d](Q[b,h,q,d] * K[b, h // R, k, d])
    P[b,h,q,k] = softmax[k where k <= q + N - M sink snk[h]](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b, h // R, k, e])
}

op hf_window_sink(Q: T[B, H, M, D], K: T[B, G, N, D], V: T[B, G, N, E], snk: f32[H], scale: f32 = 1, W: int = 256)
    -> O: T[B, H, M, E]
    where M <= N, W >= 1, G >= 1, H % G == 0
{
    let R = H // G
    S[b,h,q,k] = scale * sum[d](Q[b,h,q,d] * K[b, h // R, k, d])
    P[b,h,q,k] = softmax[k where q + N - M - W < k <= q + N - M sink snk[h]](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b, h // R, k, e])
}

op hf_full(Q: T[B, H, M, D], K: T[B, G, N, D], V: T[B, G, N, E], scale: f32 = 1) -> O: T[B, H, M, E]
    where G >= 1, H % G == 0
{
    let R = H // G
    S[b,h,q,k] = scale * sum[d](Q[b,h,q,d] * K[b, h // R, k, d])
    P[b,h,q,k] = softmax[k](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b, h // R, k, e])
}

op hf_padded(
    Q: T[B, H, M, D],
    K: T[B, G, N, D],
    V: T[B, G, N, E],
    first: i32[B],
    start: i32[B],
    length: i32[B],
    scale: f32 = 1,
    W: int = 256,
) -> O: T[B, H, M, E]
    where W >= 1, G >= 1, H % G == 0, 0 <= first[b], 0 <= start[b], 0 <= length[b] <= N
{
    let R = H // G
    S[b,h,q,k] = scale * sum[d](Q[b,h,q,d] * K[b, h // R, k, d])
    P[b,h,q,k] = softmax[k where first[b] <= k < length[b] and q + start[b] - W < k <= q + start[b]](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b, h // R, k, e])
}

op hf_padded_cap(
    Q: T[B, H, M, D],
    K: T[B, G, N, D],
    V: T[B, G, N, E],
    first: i32[B],
    start: i32[B],
    length: i32[B],
    scale: f32 = 1,
    cap: f32 = 50,
    W: int = 256,
) -> O: T[B, H, M, E]
    where W >= 1, cap > 0, G >= 1, H % G == 0, 0 <= first[b], 0 <= start[b], 0 <= length[b] <= N
{
    let R = H // G
    S[b,h,q,k] = cap * tanh(scale / cap * sum[d](Q[b,h,q,d] * K[b, h // R, k, d]))
    P[b,h,q,k] = softmax[k where first[b] <= k < length[b] and q + start[b] - W < k <= q + start[b]](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b, h // R, k, e])
}

op hf_padded_sink(
    Q: T[B, H, M, D],
    K: T[B, G, N, D],
    V: T[B, G, N, E],
    first: i32[B],
    start: i32[B],
    length: i32[B],
    snk: f32[H],
    scale: f32 = 1,
    W: int = 256,
) -> O: T[B, H, M, E]
    where W >= 1, G >= 1, H % G == 0, 0 <= first[b], 0 <= start[b], 0 <= length[b] <= N
{
    let R = H // G
    S[b,h,q,k] = scale * sum[d](Q[b,h,q,d] * K[b, h // R, k, d])
    P[b,h,q,k] = softmax[k where first[b] <= k < length[b] and q + start[b] - W < k <= q + start[b]
        sink snk[h]](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b, h // R, k, e])
}

vjp hf_causal wrt Q, K, V

vjp hf_window wrt Q, K, V

vjp hf_causal_cap wrt Q, K, V

vjp hf_window_cap wrt Q, K, V

vjp hf_causal_sink wrt Q, K, V, snk

vjp hf_window_sink wrt Q, K, V, snk

vjp hf_full wrt Q, K, V

vjp hf_padded wrt Q, K, V

vjp hf_padded_cap wrt Q, K, V

vjp hf_padded_sink wrt Q, K, V, snk

check odd { B = 2, H = 6, G = 2, M = 33, N = 65, D = 40, E = 24, W = 30, scale = 0.125, cap = 20 }
check step { B = 3, H = 2, G = 1, M = 1, N = 63, D = 16, E = 16, W = 7, scale = 0.25, cap = 2.5 }
