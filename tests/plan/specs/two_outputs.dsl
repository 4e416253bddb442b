op two_outputs(Q: f32[N, D], K: f32[N, D]) -> S: f32[N, N], P: f32[N, N], Z: f32[N]
{
    S[q,k] = sum[d](Q[q,d] * K[k,d])
    P[q,k] = softmax[k](S[q,k])
    Z[q] = logsumexp[k](S[q,k])
}

check small { N = 9, D = 5 }
