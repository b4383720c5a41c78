import './base.css';
import './timing.css';
import './answer.css';
import './library.css';
