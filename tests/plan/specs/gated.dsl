op gated(Q: bf16[B, H, N, D], K: bf16[B, H, N, D], V: bf16[B, H, N, E], g: f32[B, H, N, E], c: f32) -> O: f32[B, H, N, E], P: f32[B, H, N, N]
{
    S[b,h,q,k] = c * tanh(sum[d](Q[b,h,q,d] * K[b,h,k,d]) / c)
    P[b,h,q,k] = softmax[k where k <= q](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e]) * sigmoid(g[b,h,q,e])
}

check small { B = 1, H = 2, N = 9, D = 5, E = 4, c = 2.0 }
