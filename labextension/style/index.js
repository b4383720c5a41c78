import './base.css';
import './timing.css';
import './wire.css';
import './answer.css';
import './library.css';
