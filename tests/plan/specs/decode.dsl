op decode(Q: bf16[B, H, D], K: bf16[B, G, N, D], V: bf16[B, G, N, E], len: i32[B]) -> O: bf16[B, H, E]
    where H % G == 0
{
    let R = H // G
    S[b,h,k] = rsqrt(D) * sum[d](Q[b,h,d] * K[b,h // R,k,d])
    P[b,h,k] = softmax[k where k < len[b]](S[b,h,k])
    O[b,h,e] = sum[k](P[b,h,k] * V[b,h // R,k,e])
}

check small { B = 3, H = 4, G = 2, N = 9, D = 5, E = 4 }
