"""Linear least squares: a streamed QR factor, ridge by cross-validation, and the fit built on them."""
