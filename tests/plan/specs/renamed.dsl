op renamed(Q: f32[N, D], V: f32[N, E]) -> O: f32[N, E], T: f32[N]
{
    index i in 0 .. N
    index j in 0 .. N
    S[q,k] = sum[d](Q[q,d] * Q[k,d])
    m[q] = max[k](S[q,k])
    T[k] = sum[q](S[k,q] * S[k,q]) + m[k]
    P[i,j] = softmax[j where j <= i](S[j,i] - m[i])
    O[q,e] = sum[k](P[q,k] * V[k,e])
}

check small { N = 9, D = 5, E = 4 }
