# What ranks share in test_distributed.py, with gradients.
# Grouped heads, causal: M queries are the last M of N keys.
op attend(Q: f32[B, H, M, D], K: f32[B, G, N, D], V: f32[B, G, N, E]) -> O: f32[B, H, M, E]
    where M <= N, H % G == 0
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b, h // (H // G), k, d])
    P[b,h,q,k] = softmax[k where k <= q + N - M](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b, h // (H // G), k, e])
}

# Every kind of input and output: without heads, without the sequence, without either, integers.
op kinds(x: f32[B, N, H, D], gain: f32[H], shift: f32[N, D], scale: f32[D], doc: i32[B, N])
    -> y: f32[B, N, H, D], near: f32[H, D], moved: f32[N, D], copy: i32[B, N], unit: f32[D]
{
    y[b,n,h,d] = x[b,n,h,d] * gain[h] + shift[n,d] where doc[b,n] >= 0
    near[h,d] = gain[h] * scale[d]
    moved[n,d] = shift[n,d] * scale[d]
    copy[b,n] = 2 * doc[b,n]
    unit[d] = 3 * scale[d]
}

vjp attend wrt Q, K, V

vjp kinds wrt x, gain, shift, scale
