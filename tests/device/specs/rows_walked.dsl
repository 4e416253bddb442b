# What is made of many rows goes back to each of them: the rows that are stored are in flight as well.
op rows_walked(X: f32[B, K, R], y: f32[B, K]) -> F: bf16[B, K, R] {
    M[b] = max[k, r](X[b,k,r])
    F[b,k,r] = exp(X[b,k,r] - M[b]) + y[b,k]
}

check one { B = 1, K = 1, R = 1 }
check odd { B = 3, K = 7, R = 129 }
check whole { B = 2, K = 8, R = 64 }
